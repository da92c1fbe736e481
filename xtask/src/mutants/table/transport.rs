//! What is broken in the transport: `crates/transport/`.

use super::{Mutant, core, of, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    vault(
        "answers: an unasked 304 is a redirect",
        "crates/transport/src/engine/connection.rs",
        [
            "if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {",
            "if head.status.is_redirection() && head.status != StatusCode::OK {",
        ],
        "an_unasked_304_is_neither_a_redirect_nor_an_answer",
    ),
    vault(
        "answers: a failing server with a large page is malformed",
        "crates/transport/src/engine/connection.rs",
        [
            "Err(error) if status >= 500 && error.kind()",
            "Err(error) if status >= 600 && error.kind()",
        ],
        "a_failing_server_is_an_outage_however_large_its_page_is",
    ),
    of(
        "secret-resolver-transport",
        core(
            "identities: any server of the authorities is believed",
            "crates/transport/src/tls.rs",
            [
                "if foreign(|| server.is_in(end_entity)) != Some(true) => {",
                "if foreign(|| server.is_in(end_entity)).is_none() => {",
            ],
            "the_identity_is_believed_in_place_of_the_host_and_no_other_is",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "identities: no authority has to vouch for the server",
            "crates/transport/src/tls.rs",
            [
                "Some(_) => self.of_any_host(end_entity, intermediates, roots, now),",
                "Some(_) => self.of_any_host(end_entity, intermediates, roots, now).or_else(|_| Ok(ServerCertVerified::assertion())),",
            ],
            "the_right_identity_is_refused_out_of_its_dates_and_for_another_purpose",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "identities: connections are made without authorities",
            "crates/transport/src/identity.rs",
            [
                "        self.trust.check().map_err(Error::of_credential)?;\n",
                "",
            ],
            "other_authorities_close_connections_and_without_any_none_is_made",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "refusals: an intermediate's fault is the server's",
            "crates/transport/src/chain/mod.rs",
            [
                "of(self.end_entity).filter(|own| own.contains(now))?;",
                "of(self.end_entity).filter(|own| !own.contains(now))?;",
            ],
            "an_intermediate_is_named_where_it_is_at_fault_and_the_servers_own_certificate_is_not",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "refusals: an authority that has expired is unknown",
            "crates/transport/src/chain/mod.rs",
            [
                "given.iter().filter(|one| !one.validity.contains(now));",
                "given.iter().filter(|one| one.validity.contains(now));",
            ],
            "an_authority_that_expired_while_the_process_ran_is_not_believed_at_the_next_handshake",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "refusals: a key that is too short is another's",
            "crates/transport/src/chain/mod.rs",
            [
                "bits.is_some_and(|bits| bits < 2_048)",
                "bits.is_some_and(|bits| bits < 1_024)",
            ],
            "a_key_that_is_too_short_is_named_whoevers_it_is",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "refusals: a wrong key is the authority's fault",
            "crates/transport/src/tls.rs",
            [
                "verify_tls13_signature(message, certificate, signature, algorithms)\n            .map_err(|error| of_signature(error, certificate))",
                "verify_tls13_signature(message, certificate, signature, algorithms)",
            ],
            "a_server_that_has_another_key_than_its_certificates_is_called_that",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a section is passed over",
            "crates/transport/src/trust/pem.rs",
            [
                "        check(label).map_err(located)?;\n",
                "        if check(label).map_err(located).is_err() {\n            at = body_at;\n            continue;\n        }\n",
            ],
            "no_section_of_a_file_is_passed_over",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a pin believes anybody",
            "crates/transport/src/trust/mod.rs",
            [
                "pins.any(|pin| pin.der == certificate && pin.validity.contains(now))",
                "pins.any(|pin| pin.der.len() + certificate.len() > 0 && pin.validity.contains(now))",
            ],
            "a_server_that_signed_itself_as_an_authority_is_believed_as_a_pin_alone",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a file is never read again",
            "crates/transport/src/looks.rs",
            [
                "            Some(last) => now >= last + wait,",
                "            Some(last) => now >= last + wait * 1000,",
            ],
            "a_new_authority_needs_no_restart",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: two lengths are taken",
            "crates/transport/src/engine/connection.rs",
            [
                "                    && head.headers.contains_key(CONTENT_LENGTH)\n",
                "                    && head.headers.contains_key(\"x-none\")\n",
            ],
            "an_answer_with_two_lengths_is_malformed_and_its_connection_closed",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: a body in a coding that was not asked for is taken as it is",
            "crates/transport/src/engine/connection.rs",
            [
                "if codings.next().is_some_and(is_other) || codings.next()",
                "if codings.next().is_some_and(is_other) && codings.next()",
            ],
            "a_body_in_a_coding_that_was_not_asked_for_is_malformed",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: what stands behind another end of a section is passed over",
            "crates/transport/src/trust/pem.rs",
            [
                "find(text, END, label_end).filter(",
                "find(text, &ending, label_end).filter(",
            ],
            "they_hold_for_the_seeds_of_texts_and_certificates",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: a section that shares its dashes with the one before is passed over",
            "crates/transport/src/trust/pem.rs",
            ["+ ending.len() - DASHES.len();", "+ ending.len();"],
            "no_section_of_a_file_is_passed_over",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: older connections outlive one that is dead",
            "crates/transport/src/engine/pool.rs",
            [
                "        if !self.answered {\n",
                "        if self.answered {\n",
            ],
            "when_a_kept_connection_falls_silent_the_older_ones_are_not_tried",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: an address that was good is not remembered",
            "crates/transport/src/engine/connect.rs",
            ["*self.good() = Some(address);", "let _ = address;"],
            "an_address_that_is_away_silent_or_false_holds_up_no_other",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: no bound",
            "crates/transport/src/engine/connect.rs",
            [
                "places: Semaphore::new(connections),",
                "places: Semaphore::new(connections * 8),",
            ],
            "as_many_connections_are_open_as_the_client_allows",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: a burst keeps two",
            "crates/transport/src/engine/pool.rs",
            [
                "const SPARE_FOR: Duration = Duration::from_secs(1);",
                "const SPARE_FOR: Duration = Duration::from_secs(0);",
            ],
            "a_burst_opens_eight_connections_and_keeps_them_while_it_lasts",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: all that a burst used are kept",
            "crates/transport/src/engine/pool.rs",
            [
                "const MOST_IDLE: usize = 2;",
                "const MOST_IDLE: usize = 20;",
            ],
            "a_second_after_a_burst_two_connections_are_kept",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: a kept one does not count",
            "crates/transport/src/client.rs",
            [
                "self.pool.keep(origin, readers, || target.free_places());",
                "self.pool.keep(origin, readers, || 100);",
            ],
            "a_connection_that_is_kept_counts_among_those_that_may_be_open",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: a request waits without an end",
            "crates/transport/src/engine/connect.rs",
            [
                "let place = first(place, clock.sleep_until(deadline)).await.flatten();",
                "let place = first(place, clock.sleep_until(deadline + Duration::from_secs(99))).await.flatten();",
            ],
            "a_request_that_finds_no_connection_for_long_is_overloaded_and_was_not_sent",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: the waiters are held up by those that hang",
            "crates/transport/src/engine/connect.rs",
            [
                "let soon = deadline.min(clock.now() + PATIENCE);",
                "let soon = deadline;",
            ],
            "where_all_connections_are_in_use_for_long_another_is_opened",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: there is no end to further ones",
            "crates/transport/src/engine/connect.rs",
            ["const FURTHER: usize = 64;", "const FURTHER: usize = 80;"],
            "a_request_that_finds_no_connection_for_long_is_overloaded_and_was_not_sent",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "connections: a request that comes later takes what is kept for another",
            "crates/transport/src/engine/connect.rs",
            [
                "if self.waiting.load(Ordering::Acquire) == 0",
                "if self.waiting.load(Ordering::Acquire) < 999",
            ],
            "a_connection_that_is_kept_goes_to_those_that_wait_for_one",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a server that does not hold the certificate's key is believed in TLS 1.3",
            "crates/transport/src/tls.rs",
            [
                "        verify_tls13_signature(message, certificate, signature, algorithms)\n",
                "        verify_tls13_signature(message, certificate, signature, algorithms)\n            .or_else(|_| Ok(HandshakeSignatureValid::assertion()))\n",
            ],
            "a_server_with_the_right_certificate_and_another_key_is_refused",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a server that does not hold the certificate's key is believed in TLS 1.2",
            "crates/transport/src/tls.rs",
            [
                "        verify_tls12_signature(message, certificate, signature, algorithms)\n",
                "        verify_tls12_signature(message, certificate, signature, algorithms)\n            .or_else(|_| Ok(HandshakeSignatureValid::assertion()))\n",
            ],
            "a_server_with_the_right_certificate_and_another_key_is_refused",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a pin outlives its dates",
            "crates/transport/src/trust/mod.rs",
            [
                "pin.der == certificate && pin.validity.contains(now)",
                "pin.der == certificate && (pin.validity.contains(now) || !pin.der.is_empty())",
            ],
            "a_pin_is_good_within_its_dates_alone",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "tls: a provider is installed for the process",
            "crates/transport/src/tls.rs",
            [
                "    // Given explicitly: the process",
                "    let _ = chosen::default_provider().install_default();\n    // Given explicitly: the process",
            ],
            "no_provider_has_to_be_installed_and_none_is",
        ),
    ),
    vault(
        "logs: the headers of an answer are traced",
        "crates/transport/src/engine/connection.rs",
        [
            "let (head, body) = response.into_parts();",
            "let (head, body) = response.into_parts();\n                tracing::debug!(headers = ?head.headers, \"answered\");",
        ],
        "nothing_that_a_hostile_server_writes_is_in_any_text_or_trace",
    ),
];
