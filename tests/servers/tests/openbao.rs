//! The real server: that it starts, that each helper does what it says, and that it ends. Nothing of ours stands between these tests
//! and the server except this crate.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use test_servers::{Error, OpenBao};

#[test]
fn a_value_written_is_read_back_byte_for_byte_and_versions_count_up() -> Result<(), Error> {
    let server = OpenBao::start()?;
    for (version, value) in [
        "plain",
        "@/not/a/file",
        "-",
        "quote \" backslash \\ newline \n end",
        "ünïcode",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            server.put("app/db", &[("password", value), ("user", "app")])?,
            version as u64 + 1
        );
        assert_eq!(
            server.run(&["kv", "get", "-mount=secret", "-field=password", "app/db"])?,
            value
        );
    }
    server.put_json("app/odd", r#"{"number": 5432, "nested": {"a": [true]}}"#)?;
    assert_eq!(
        server.run(&["kv", "get", "-mount=secret", "-field=number", "app/odd"])?,
        "5432"
    );
    Ok(())
}

#[test]
fn an_approle_logs_in_and_reads_only_what_its_policy_allows() -> Result<(), Error> {
    let server = OpenBao::start()?;
    server.put("app/db", &[("password", "p")])?;
    server.put("other", &[("password", "q")])?;
    server.policy(
        "app",
        r#"path "secret/data/app/*" { capabilities = ["read"] }"#,
    )?;
    let ttl = Duration::from_secs(60);
    // Twice, because a second role must find the login method enabled and go on.
    server.approle("first", &["app"], ttl, ttl)?;
    let role = server.approle("app", &["app"], ttl, ttl * 2)?;
    assert!(!format!("{role:?}").contains(&role.secret_id));
    let login = ["write", "-field=token", "auth/approle/login"];
    let (role_id, secret_id) = (
        format!("role_id={}", role.role_id),
        format!("secret_id={}", role.secret_id),
    );
    let token = server.run(&[login.as_slice(), &[&role_id, &secret_id]].concat())?;
    assert_eq!(
        server.run_as(&token, &["read", "-field=data", "secret/data/app/db"])?,
        "map[password:p]"
    );
    let denied = server
        .run_as(&token, &["read", "secret/data/other"])
        .unwrap_err()
        .to_string();
    assert!(denied.contains("permission denied"), "{denied}");
    Ok(())
}

#[test]
fn a_token_works_until_it_is_revoked_by_itself_or_by_its_accessor() -> Result<(), Error> {
    let server = OpenBao::start()?;
    for by_accessor in [false, true] {
        let token = server.token(&["default"], Duration::from_secs(60))?;
        let accessor = server.run_as(&token, &["token", "lookup", "-field=accessor"])?;
        match by_accessor {
            true => server.revoke_accessor(&accessor)?,
            false => server.revoke(&token)?,
        }
        let refused = server
            .run_as(&token, &["token", "lookup"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("403"), "{refused}");
    }
    Ok(())
}

#[test]
fn a_sealed_server_answers_503_until_it_is_unsealed() -> Result<(), Error> {
    let server = OpenBao::start()?;
    server.put("a", &[("value", "v")])?;
    server.seal()?;
    let refused = server
        .run(&["kv", "get", "-mount=secret", "a"])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("503"), "{refused}");
    server.unseal()?;
    assert_eq!(
        server.run(&["kv", "get", "-mount=secret", "-field=value", "a"])?,
        "v"
    );
    Ok(())
}

#[test]
fn a_suspended_server_accepts_connections_and_resumes() -> Result<(), Error> {
    let mut server = OpenBao::start()?;
    server.suspend()?;
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_ok());
    server.resume()?;
    server.put("a", &[("value", "v")])?;
    // Dropped while suspended, it must still end.
    server.suspend()
}

#[test]
fn a_stopped_server_is_gone_with_its_process_its_port_and_its_files() -> Result<(), Error> {
    let mut server = OpenBao::start()?;
    let (pid, port, ca_file) = (
        server.pid().to_string(),
        server.port(),
        server.ca_file().to_owned(),
    );
    let alive = || {
        Command::new("kill")
            .args(["-0", &pid])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    assert!(alive() && ca_file.exists());
    server.stop();
    assert!(!alive());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(server.suspend().is_err());
    drop(server);
    assert!(!ca_file.exists());
    Ok(())
}

#[test]
fn two_servers_stand_side_by_side_and_share_nothing() -> Result<(), Error> {
    let (one, two) = (OpenBao::start()?, OpenBao::start()?);
    assert_ne!(one.root_token(), two.root_token());
    assert_ne!(one.origin(), two.origin());
    assert!(two.run_as(one.root_token(), &["token", "lookup"]).is_err());
    assert!(!one.log()?.contains(one.root_token()));
    Ok(())
}
