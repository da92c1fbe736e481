//! The real PostgreSQL: that it starts, asks for its passwords, and ends.

use std::net::TcpStream;
use std::process::{Command, Stdio};

use test_servers::{Error, Postgres};

#[test]
fn a_role_has_the_password_that_it_was_given_last() -> Result<(), Error> {
    let server = Postgres::start()?;
    let stored = || server.run("SELECT rolpassword FROM pg_authid WHERE rolname = 'it''s \"app\"'");
    server.set_password("it's \"app\"", "first's")?;
    let first = stored()?;
    assert!(first.starts_with("SCRAM-SHA-256$"), "{first}");
    server.set_password("it's \"app\"", "second")?;
    assert_ne!(stored()?, first);
    Ok(())
}

#[test]
fn a_statement_that_fails_is_an_error_with_the_servers_words() -> Result<(), Error> {
    let server = Postgres::start()?;
    let error = server.run("SELECT no_such_column").unwrap_err().to_string();
    assert!(error.contains("no_such_column"), "{error}");
    Ok(())
}

#[test]
fn a_login_over_loopback_needs_a_password() -> Result<(), Error> {
    let server = Postgres::start()?;
    let methods = "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE type LIKE 'host%'";
    assert_eq!(server.run(methods)?, "scram-sha-256");
    Ok(())
}

#[test]
fn a_dropped_server_is_gone_with_its_process_its_port_and_its_shared_memory() -> Result<(), Error> {
    let server = Postgres::start()?;
    let (pid, port) = (server.pid().to_string(), server.port());
    // The segment by which PostgreSQL knows that its data have an owner; it names the process that made it.
    let shared = || {
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let made_by = |line: &str| line.split_whitespace().nth(4).map(str::to_owned);
        segments
            .lines()
            .filter_map(made_by)
            .any(|made_by| made_by == pid)
    };
    let alive = || {
        Command::new("kill")
            .args(["-0", &pid])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    assert!(alive() && TcpStream::connect(("127.0.0.1", port)).is_ok());
    if cfg!(target_os = "linux") {
        assert!(shared());
    }
    drop(server);
    assert!(!alive() && TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!shared());
    Ok(())
}
