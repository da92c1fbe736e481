"""Drives a Workload API with SPIFFE's Python client. Reads what to do as JSON; writes what each call came to as JSON."""

import json
import sys

import grpc
from spiffe import SpiffeId, WorkloadApiClient
from spiffe._proto import workload_pb2, workload_pb2_grpc

# Else it names a host by the socket's path, with percent signs, which HTTP's rules do not allow and the `h2` crate refuses.
plain = grpc.insecure_channel
grpc.insecure_channel = lambda target: plain(target, [("grpc.default_authority", "localhost")])

wanted = json.load(sys.stdin)
came_to = {}


def attempt(name, call):
    try:
        came_to[name] = call()
    except grpc.RpcError as error:
        came_to[name] = {"status": error.code().name, "says": error.details()}
    except Exception as error:
        came_to[name] = {"error": type(error).__name__, "says": str(error)}


def x509(svid):
    return {
        "id": str(svid.spiffe_id),
        "chain": len(svid.cert_chain),
        "fits": svid.private_key.public_key() == svid.leaf.public_key(),
    }


def jwt(svid):
    return {"id": str(svid.spiffe_id), "audience": list(svid.audience), "token": svid.token}


def without_metadata(call, request):
    """By the generated stub alone: the client itself always adds it."""
    with grpc.insecure_channel(wanted["endpoint"]) as channel:
        stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
        answer = getattr(stub, call)(request, timeout=10)
        # A stream says so at its first message.
        return str(next(answer) if call.startswith("FetchX509") else answer)


id = SpiffeId(wanted["id"])
with WorkloadApiClient(wanted["endpoint"], default_timeout=10) as client:
    domain = id.trust_domain
    attempt("x509", lambda: x509(client.fetch_x509_svid()))
    attempt("all x509", lambda: [x509(svid) for svid in client.fetch_x509_svids()])
    attempt("jwt", lambda: jwt(client.fetch_jwt_svid(audience={wanted["audience"]}, subject=id)))
    attempt(
        "x509 bundles",
        lambda: len(client.fetch_x509_bundles().get_bundle_for_trust_domain(domain).x509_authorities),
    )
    attempt(
        "jwt bundles",
        lambda: sorted(client.fetch_jwt_bundles().get_bundle_for_trust_domain(domain).jwt_authorities),
    )
attempt("x509 without metadata", lambda: without_metadata("FetchX509SVID", workload_pb2.X509SVIDRequest()))
attempt(
    "jwt without metadata",
    lambda: without_metadata("FetchJWTSVID", workload_pb2.JWTSVIDRequest(audience=[wanted["audience"]])),
)
json.dump(came_to, sys.stdout)
