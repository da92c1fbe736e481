"""Drives a server with Conjur's own Python client, and prints what the client made of it as one JSON object.

The arguments come as one JSON object on the standard input. What an operation raises is printed in place of its result.
"""

import asyncio
import json
import logging
import sys

from conjur_api import Client
from conjur_api.errors.errors import HttpStatusError
from conjur_api.models import (
    ConjurConnectionInfo,
    CredentialsData,
    Resource,
    SslVerificationMode,
)
from conjur_api.providers import (
    AuthnAuthenticationStrategy,
    JWTAuthenticationStrategy,
    SimpleCredentialsProvider,
)

# It reports each refusal as an error in its log; the test looks at what it raises.
logging.disable(logging.CRITICAL)


async def main():
    given = json.load(sys.stdin)
    url = given["url"]
    results = {}

    def connection(service=None):
        return ConjurConnectionInfo(
            conjur_url=url,
            account=given["account"],
            cert_file=given["ca_file"],
            service_id=service,
        )

    def client(strategy, service=None):
        return Client(
            connection(service),
            ssl_verification_mode=SslVerificationMode.CA_BUNDLE,
            authn_strategy=strategy,
        )

    def by_key(login, password=None, key=None):
        provider = SimpleCredentialsProvider()
        provider.save(
            CredentialsData(machine=url, username=login, password=password, api_key=key)
        )
        return client(AuthnAuthenticationStrategy(provider))

    async def note(name, operation):
        try:
            result = await operation
        except HttpStatusError as error:
            result = {"refused": error.status}
        except Exception as error:
            result = {"raised": f"{type(error).__name__}: {error}"}
        results[name] = result.decode() if isinstance(result, bytes) else result

    reader = by_key(given["login"], password=given["key"])
    await note("login", reader.login())
    await note("whoami", reader.whoami())
    await note("version", reader.server_version())
    for variable in given["variables"]:
        await note(f"get {variable}", reader.get(variable))
    await note("get version 1", reader.get(given["versioned"], "1"))
    await note("get version 99", reader.get(given["versioned"], "99"))
    await note("get_many", reader.get_many(*given["batch"]))
    await note("get_many with one denied", reader.get_many(*given["batch"], given["denied"]))
    await note("list", reader.list({"kind": "variable"}))
    await note("find", reader.list({"kind": "variable", "search": given["word"]}))
    await note("resource", reader.get_resource("variable", given["versioned"]))
    await note("exists", reader.resource_exists("variable", given["versioned"]))
    await note("does not exist", reader.resource_exists("variable", "nowhere"))
    await note("may read", reader.check_privilege("variable", given["versioned"], "execute"))
    await note("may write", reader.check_privilege("variable", given["versioned"], "update"))
    await note("writes without the right", reader.set(given["versioned"], "x"))
    await note("wrong key", by_key(given["login"], key="wrong").whoami())

    writer = by_key("admin", key=given["admin_key"])
    await note("set", writer.set(given["written"], "written by the client"))
    await note("set nothing", writer.set(given["written"], ""))
    await note("load policy", writer.load_policy_file("root", given["policy_file"]))
    await note("rotate another's", writer.rotate_other_api_key(Resource("host", given["rotated"])))
    await note("rotate one's own", reader.rotate_personal_api_key(given["login"], given["key"]))

    workload = client(JWTAuthenticationStrategy(given["jwt"]), service=given["service"])
    await note("jwt whoami", workload.whoami())
    await note("jwt get", workload.get(given["versioned"]))
    await note("expired jwt", client(JWTAuthenticationStrategy(given["expired_jwt"]), service=given["service"]).whoami())

    json.dump(results, sys.stdout)


asyncio.run(main())
