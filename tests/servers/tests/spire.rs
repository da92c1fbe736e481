//! The real SPIRE: that it starts, that each helper does what it says, and that it ends. Nothing of ours stands between these tests and
//! SPIRE's own client except this crate.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use test_servers::{
    Authority, Error, OpenBao, Registration, Spire, SpireKey, SpireSettings, X509Svid,
};

/// A user that no entry is for.
const STRANGER: u32 = 65533;

#[test]
fn a_registered_workload_gets_both_kinds_of_svid_and_another_user_gets_nothing() -> Result<(), Error>
{
    let spire = Spire::start()?;
    let me = spire.uid();
    let nobody_yet = spire.fetch_x509(me).unwrap_err().to_string();
    assert!(nobody_yet.contains("PermissionDenied"), "{nobody_yet}");
    spire.register(&Registration::new("/web", me).hint("main"))?;
    let x509 = spire.until_issued(me, "/web")?;
    assert_eq!(
        (x509.id.as_str(), x509.hint.as_str()),
        ("spiffe://spire.test/web", "main")
    );
    assert_eq!(x509.bundle, spire.x509_bundle()?);
    let jwt = spire.fetch_jwt(me, "bao")?;
    assert_eq!(jwt.len(), 1);
    assert_eq!(jwt[0].id, "spiffe://spire.test/web");
    for refused in [
        spire.fetch_x509(STRANGER).map(drop),
        spire.fetch_jwt(STRANGER, "bao").map(drop),
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("PermissionDenied"), "{refused}");
    }
    // It was not refused for something else: it gets what is its own.
    spire.register(&Registration::new("/stranger", STRANGER))?;
    spire.until_issued(STRANGER, "/stranger")?;
    let mine = spire.fetch_x509(me)?;
    assert!(mine.iter().all(|svid| svid.id == x509.id));
    for shown in [format!("{x509:?}"), format!("{jwt:?}")] {
        assert!(
            !shown.contains("-----") && !shown.contains(&jwt[0].token),
            "{shown}"
        );
    }
    Ok(())
}

#[test]
fn nobody_else_can_write_where_the_agents_socket_is() -> Result<(), Error> {
    let below = tempfile::tempdir().unwrap();
    let spire = SpireSettings::new("spire.test")
        .below(below.path())
        .start()?;
    let socket = spire.socket();
    assert!(socket.starts_with(below.path()));
    let folders = socket.ancestors().skip(1);
    for folder in folders.take_while(|folder| *folder != below.path()) {
        let metadata = folder.metadata().unwrap();
        assert_eq!(metadata.uid(), spire.uid());
        assert_eq!(metadata.permissions().mode() & 0o022, 0, "{folder:?}");
    }
    Ok(())
}

#[test]
fn an_entry_that_is_deleted_ends_the_stream_and_a_second_one_is_a_second_identity()
-> Result<(), Error> {
    let spire = Spire::start()?;
    let me = spire.uid();
    // The default identity, which comes first, is the one of the least entry.
    let first = spire.register(&Registration::new("/first", me).entry("b"))?;
    spire.until_issued(me, "/first")?;
    let mut watch = spire.watch(me)?;
    watch.until("spiffe://spire.test/first", 1)?;
    let second = spire.register(&Registration::new("/second", me).entry("c"))?;
    spire.until_issued(me, "/second")?;
    watch.until("spiffe://spire.test/second", 1)?;
    let ids = |svids: Vec<X509Svid>| svids.into_iter().map(|svid| svid.id);
    let both: Vec<_> = ids(spire.fetch_x509(me)?).collect();
    assert_eq!(both, [spire.id("/first"), spire.id("/second")]);
    spire.delete(&first)?;
    spire.until_withdrawn(me, "/first")?;
    assert_eq!(spire.fetch_jwt(me, "bao")?.len(), 1);
    spire.delete(&second)?;
    spire.until_withdrawn(me, "/second")?;
    watch.until("PermissionDenied", 1)?;
    let refused = spire.fetch_jwt(me, "bao").unwrap_err().to_string();
    assert!(refused.contains("PermissionDenied"), "{refused}");
    Ok(())
}

#[test]
fn svids_of_seconds_are_rotated_and_the_stream_says_so() -> Result<(), Error> {
    let spire = Spire::start()?;
    let me = spire.uid();
    let ttl = Duration::from_secs(4);
    let registration = Registration::new("/web", me).x509_ttl(ttl).jwt_ttl(ttl);
    spire.register(&registration)?;
    let mut svid = spire.until_issued(me, "/web")?;
    let mut watch = spire.watch(me)?;
    let first = spire.fetch_jwt(me, "bao")?[0].token.clone();
    for _ in 0..3 {
        let new = spire.until_rotated(me, &svid)?;
        assert_ne!(new.key, svid.key);
        svid = new;
    }
    watch.until("SVID Valid Until", 4)?;
    // The agent keeps a token to half of its life.
    let mut token = first.clone();
    for _ in 0..100 {
        token = spire.fetch_jwt(me, "bao")?[0].token.clone();
        if token != first {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(token, first);
    Ok(())
}

#[test]
fn an_agent_that_was_killed_starts_again_with_what_it_had_and_a_frozen_one_goes_on()
-> Result<(), Error> {
    let mut spire = Spire::start()?;
    let me = spire.uid();
    spire.register(&Registration::new("/web", me))?;
    spire.until_issued(me, "/web")?;
    let mut watch = spire.watch(me)?;
    watch.until("spiffe://spire.test/web", 1)?;
    let killed = spire.agent_pid();
    spire.stop_agent();
    assert!(spire.socket().exists() && !alive(killed));
    watch.until("Unavailable", 1)?;
    assert!(spire.fetch_x509(me).is_err());
    spire.start_agent()?;
    assert_ne!(spire.agent_pid(), killed);
    spire.until_issued(me, "/web")?;
    // The stream of before finds the new agent.
    watch.until("spiffe://spire.test/web", 2)?;
    spire.suspend_agent()?;
    let frozen = spire.fetch_x509(me).unwrap_err().to_string();
    assert!(frozen.contains("DeadlineExceeded"), "{frozen}");
    spire.resume_agent()?;
    spire.until_issued(me, "/web")?;
    spire.suspend_server()?;
    spire.fetch_x509(me)?;
    spire.resume_server()?;
    assert!(spire.agent_log()?.contains("Starting Workload") && !spire.server_log()?.is_empty());
    Ok(())
}

#[test]
fn while_its_server_is_away_the_agent_gives_svids_past_their_end_and_no_new_jwt()
-> Result<(), Error> {
    let mut spire = Spire::start()?;
    let me = spire.uid();
    let second = Duration::from_secs(1);
    let registration = Registration::new("/web", me)
        .x509_ttl(second)
        .jwt_ttl(second);
    spire.register(&registration)?;
    spire.until_issued(me, "/web")?;
    spire.fetch_jwt(me, "bao")?;
    let before = spire.authorities(Authority::X509)?;
    spire.stop_server();
    let last = spire.until_issued(me, "/web")?;
    // Not a wait for something that may come sooner or later: the life of what it has ends meanwhile, and that is what is looked at.
    std::thread::sleep(2 * second);
    assert!(spire.until_issued(me, "/web")? == last);
    let refused = spire.fetch_jwt(me, "bao").unwrap_err().to_string();
    assert!(refused.contains("Unavailable"), "{refused}");
    spire.start_server()?;
    assert_eq!(spire.authorities(Authority::X509)?, before);
    spire.until_rotated(me, &last)?;
    spire.fetch_jwt(me, "bao")?;
    Ok(())
}

#[test]
fn a_new_x509_authority_is_trusted_before_it_signs_and_the_old_one_not_after_it_was_revoked()
-> Result<(), Error> {
    let spire = Spire::start()?;
    let me = spire.uid();
    spire.register(&Registration::new("/web", me))?;
    let svid = spire.until_issued(me, "/web")?;
    let old = spire.authorities(Authority::X509)?.active.unwrap();
    let next = spire.prepare(Authority::X509)?;
    assert_eq!(
        spire.authorities(Authority::X509)?.prepared.as_deref(),
        Some(next.as_str())
    );
    let certificates = |bundle: &str| bundle.matches("BEGIN CERTIFICATE").count();
    assert_eq!(certificates(&spire.x509_bundle()?), 2);
    spire.activate(Authority::X509, &next)?;
    spire.taint(Authority::X509, &old)?;
    let new = spire.until_rotated(me, &svid)?;
    spire.revoke(Authority::X509, &old)?;
    let left = spire.x509_bundle()?;
    assert_eq!(certificates(&left), 1);
    assert_ne!(left, svid.bundle);
    assert_ne!(new.chain, svid.chain);
    assert_eq!(spire.authorities(Authority::X509)?.active, Some(next));
    Ok(())
}

#[test]
fn openbao_takes_what_spire_gives_by_jwt_and_by_certificate() -> Result<(), Error> {
    let bao = OpenBao::start()?;
    bao.run(&["auth", "enable", "jwt"])?;
    bao.run(&["auth", "enable", "cert"])?;
    for (key, algorithm) in [(SpireKey::P256, "ES256"), (SpireKey::Rsa2048, "RS256")] {
        let settings = SpireSettings::new("spire.test").jwt_key(key).ca_key(key);
        let spire = settings.workload_key(key).start()?;
        let me = spire.uid();
        let entry = spire.register(&Registration::new("/web", me))?;
        let nameless = spire.until_issued(me, "/web")?;
        jwt_logins(&bao, &spire, algorithm)?;
        bao.run_with_input(
            &[
                "write",
                "auth/cert/certs/web",
                "certificate=-",
                &format!("allowed_uri_sans={}", nameless.id),
            ],
            &nameless.bundle,
        )?;
        // The server answers 500: it names an identity by the certificate's common name.
        let refused = cert_login(&bao, &nameless).unwrap_err().to_string();
        assert!(refused.contains("missing name in alias"), "{refused}");
        spire.delete(&entry)?;
        spire.register(&Registration::new("/web", me).dns("web.spire.test"))?;
        cert_login(&bao, &spire.until_rotated(me, &nameless)?)?;
    }
    Ok(())
}

fn jwt_logins(bao: &OpenBao, spire: &Spire, algorithm: &str) -> Result<(), Error> {
    let [key] = spire
        .jwt_keys()?
        .try_into()
        .unwrap_or_else(|keys| panic!("{keys:?}"));
    bao.run(&[
        "write",
        "auth/jwt/config",
        &format!("jwt_validation_pubkeys={}", key.pem),
        &format!("jwt_supported_algs={algorithm}"),
    ])?;
    bao.run(&[
        "write",
        "auth/jwt/role/web",
        "role_type=jwt",
        "user_claim=sub",
        "bound_audiences=bao",
        &format!("bound_subject={}", spire.id("/web")),
    ])?;
    for (audience, taken) in [("bao", true), ("other", false)] {
        let jwt = &spire.fetch_jwt(spire.uid(), audience)?[0].token;
        let login = bao.run(&["write", "auth/jwt/login", "role=web", &format!("jwt={jwt}")]);
        assert_eq!(login.is_ok(), taken, "{login:?}");
    }
    Ok(())
}

fn cert_login(bao: &OpenBao, svid: &X509Svid) -> Result<String, Error> {
    let files = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let [chain, key] = ["chain", "key"].map(|name| files.path().join(name));
    for (file, text) in [(&chain, &svid.chain), (&key, &svid.key)] {
        std::fs::write(file, text).unwrap_or_else(|error| panic!("{error}"));
    }
    let chain = format!("-client-cert={}", chain.display());
    let key = format!("-client-key={}", key.display());
    bao.run(&[
        "login",
        "-no-store",
        "-method=cert",
        &chain,
        &key,
        "name=web",
    ])
}

#[test]
fn an_authority_of_jwts_is_replaced_and_both_keys_are_told_meanwhile() -> Result<(), Error> {
    let spire = Spire::start()?;
    let old = spire.authorities(Authority::Jwt)?.active.unwrap();
    let next = spire.prepare(Authority::Jwt)?;
    let ids = |spire: &Spire| -> Result<Vec<String>, Error> {
        Ok(spire.jwt_keys()?.into_iter().map(|key| key.id).collect())
    };
    let both = ids(&spire)?;
    assert!(both.contains(&old) && both.contains(&next), "{both:?}");
    spire.activate(Authority::Jwt, &next)?;
    spire.taint(Authority::Jwt, &old)?;
    spire.revoke(Authority::Jwt, &old)?;
    assert_eq!(ids(&spire)?, [next]);
    Ok(())
}

#[test]
fn everything_ends_with_the_value_and_with_a_test_that_panics() -> Result<(), Error> {
    let spire = Spire::start()?;
    let watch = spire.watch(spire.uid())?;
    let (server, agent, socket) = (spire.server_pid(), spire.agent_pid(), spire.socket());
    assert!(alive(server) && alive(agent) && socket.exists());
    drop(watch);
    drop(spire);
    assert!(!alive(server) && !alive(agent) && !socket.exists());
    let spire = Spire::start()?;
    let (server, agent) = (spire.server_pid(), spire.agent_pid());
    let test = std::thread::spawn(move || {
        let _owned = spire;
        panic!("as a failing test does");
    });
    assert!(test.join().is_err());
    assert!(!alive(server) && !alive(agent));
    Ok(())
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the owner reports the process ids to its test there"
)]
fn everything_ends_with_the_process_that_started_it() -> Result<(), Error> {
    // The owner is this same test in its own process, marked by this variable.
    const OWNER: &str = "TEST_SERVERS_SPIRE_OWNER_TO_BE_KILLED";
    if std::env::var_os(OWNER).is_some() {
        let spire = Spire::start()?;
        println!("\npid {}\npid {}", spire.server_pid(), spire.agent_pid());
        std::thread::sleep(Duration::from_secs(60));
        return Ok(());
    }
    // What a killed owner cannot remove is removed with this.
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "everything_ends_with_the_process_that_started_it",
            "--nocapture",
        ])
        .env(OWNER, "")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let pids: Vec<u32> = lines
        .map(Result::unwrap)
        .filter_map(|line| line.strip_prefix("pid ")?.parse().ok())
        .take(2)
        .collect();
    assert!(pids.iter().all(|pid| alive(*pid)));
    owner.kill().unwrap();
    owner.wait().unwrap();
    for pid in pids {
        // A process whose parent is gone is reaped by another, in its own time.
        while alive(pid) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// A question that cannot be asked counts as yes, and so as a failure of what waits for an end.
fn alive(pid: u32) -> bool {
    Command::new("kill")
        .args(["-0", &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .map_or(true, |status| status.success())
}
