use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

/// A folder that is safe, with a socket in it at `agent/api.sock`. The tests run below the temporary folder, which is sticky.
struct Place {
    folder: tempfile::TempDir,
    _listens: UnixListener,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        fs::create_dir(&agent).unwrap();
        set_mode(&agent, 0o755);
        let _listens = UnixListener::bind(agent.join("api.sock")).unwrap();
        Self { folder, _listens }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn guard(&self, below: &str) -> Guard {
        let sticky = self.folder.path().ancestors().map(Path::to_owned).collect();
        Guard::new(self.path(below), Some(us()), sticky).unwrap()
    }
}

fn us() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn kind(guard: &Guard) -> Option<ErrorKind> {
    guard.look().err().map(|error| error.kind())
}

#[test]
fn a_socket_in_a_safe_place_is_found_also_by_links() {
    let place = Place::new();
    assert_eq!(
        place.guard("agent/api.sock").look().unwrap(),
        place.path("agent/api.sock")
    );
    symlink("agent", place.path("linked")).unwrap();
    symlink(
        place.path("linked/../linked/api.sock"),
        place.path("direct"),
    )
    .unwrap();
    for way in [
        "linked/api.sock",
        "direct",
        "agent/./api.sock",
        "agent/../agent/api.sock",
    ] {
        assert_eq!(
            place.guard(way).look().unwrap(),
            place.path("agent/api.sock"),
            "{way}"
        );
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_refused_wherever_it_stands() {
    for mode in [0o775, 0o757, 0o777, 0o722] {
        let place = Place::new();
        set_mode(&place.path("agent"), mode);
        let error = place.guard("agent/api.sock").look().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{mode:o}");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
        assert!(error.to_string().contains("/agent"), "{error}");
        // Also where only a link leads through it, to a socket in a safe one.
        let (place, open) = (Place::new(), "open");
        fs::create_dir(place.path(open)).unwrap();
        symlink(place.path("agent/api.sock"), place.path("open/inner")).unwrap();
        symlink("open/inner", place.path("by-link")).unwrap();
        set_mode(&place.path(open), 0o755);
        assert_eq!(kind(&place.guard("by-link")), None);
        set_mode(&place.path(open), mode);
        assert_eq!(kind(&place.guard("by-link")), Some(ErrorKind::Refused));
    }
}

#[test]
fn a_sticky_folder_is_refused_unless_it_is_named() {
    let place = Place::new();
    set_mode(&place.path("agent"), 0o1777);
    let error = place.guard("agent/api.sock").look().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("with_sticky_folder"), "{error}");
    let mut guard = place.guard("agent/api.sock");
    guard.sticky.push(place.path("agent"));
    assert!(guard.look().is_ok());
    // A folder without the sticky bit is refused, named or not.
    set_mode(&place.path("agent"), 0o777);
    assert_eq!(kind(&guard), Some(ErrorKind::Refused));
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    let place = Place::new();
    let sticky: Vec<_> = place
        .folder
        .path()
        .ancestors()
        .map(Path::to_owned)
        .collect();
    let strict = |agent| Guard::new(place.path("agent/api.sock"), agent, sticky.clone()).unwrap();
    if us() != ROOT {
        assert_eq!(kind(&strict(None)), Some(ErrorKind::Refused));
        return;
    }
    // Root may give it to somebody else.
    for part in ["agent/api.sock", "agent"] {
        std::os::unix::fs::chown(place.path(part), Some(4711), None).unwrap();
        let error = strict(None).look().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("uid 4711"), "{error}");
        assert!(strict(Some(4711)).look().is_ok());
        std::os::unix::fs::chown(place.path(part), Some(ROOT), None).unwrap();
    }
}

#[tokio::test]
async fn a_link_that_is_swapped_is_looked_at_again_at_the_next_connection() {
    let place = Place::new();
    let (link, other) = (place.path("link"), place.path("other"));
    symlink(place.path("agent/api.sock"), &link).unwrap();
    let guard = place.guard("link");
    assert!(guard.connect().await.is_ok());
    // Somebody listens where everyone may.
    fs::create_dir(&other).unwrap();
    set_mode(&other, 0o777);
    let _listens = UnixListener::bind(other.join("api.sock")).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(other.join("api.sock"), &link).unwrap();
    let error = guard.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    // Also where the link is another user's, although it leads to the right place.
    fs::remove_file(&link).unwrap();
    symlink(place.path("agent/api.sock"), &link).unwrap();
    assert!(guard.connect().await.is_ok());
    if us() == ROOT {
        std::os::unix::fs::lchown(&link, Some(4711), None).unwrap();
        let error = guard.connect().await.unwrap_err();
        assert!(error.to_string().contains("uid 4711"), "{error}");
    }
}

#[test]
fn what_is_no_socket_and_what_is_not_there_says_so() {
    let place = Place::new();
    fs::write(place.path("agent/file"), "").unwrap();
    fs::create_dir(place.path("agent/folder")).unwrap();
    symlink("loop", place.path("agent/loop")).unwrap();
    for (way, wanted) in [
        ("agent/file", ErrorKind::Refused),
        ("agent/folder", ErrorKind::Refused),
        ("agent/file/api.sock", ErrorKind::Refused),
        ("agent/none.sock", ErrorKind::Unavailable),
        ("none/api.sock", ErrorKind::Unavailable),
        ("agent/loop", ErrorKind::Refused),
    ] {
        assert_eq!(kind(&place.guard(way)), Some(wanted), "{way}");
    }
    for wrong in [
        "tcp://127.0.0.1:8081",
        "unix:///run/api.sock",
        "api.sock",
        "",
    ] {
        let error = Guard::new(PathBuf::from(wrong), None, Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{wrong}");
    }
}

#[tokio::test]
async fn the_agents_user_and_root_may_listen_there() {
    let place = Place::new();
    assert!(place.guard("agent/api.sock").connect().await.is_ok());
    if us() == ROOT {
        // The socket is the agent's, and root listens there.
        let mut guard = place.guard("agent/api.sock");
        guard.agent = Some(4711);
        assert!(guard.connect().await.is_ok());
    }
}

#[tokio::test]
async fn a_user_without_a_number_in_this_namespace_is_nobody_who_was_named() {
    let place = Place::new();
    let mut guard = place.guard("agent/api.sock");
    // As in a user namespace that does not have the agent's user: it and all others who are not there look the same.
    guard.unmapped = Some(us());
    let error = guard.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("user namespace"), "{error}");
}

#[test]
fn a_path_that_no_address_holds_and_links_without_an_end_say_so() {
    let place = Place::new();
    let long = place.path(&"long".repeat(24));
    fs::create_dir(&long).unwrap();
    let _listens = UnixListener::bind(place.path("agent/other.sock")).unwrap();
    fs::rename(place.path("agent/other.sock"), long.join("api.sock")).unwrap();
    symlink(&long, place.path("short")).unwrap();
    symlink("round", place.path("round")).unwrap();
    for (path, text) in [("short/api.sock", "107 bytes"), ("round", "too many links")] {
        let error = place.guard(path).look().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for path in ["agent/api.sock/..", "agent/..", "agent", "."] {
        assert_eq!(kind(&place.guard(path)), Some(ErrorKind::Refused), "{path}");
    }
}

#[test]
fn the_root_folder_is_looked_at_like_all_others() {
    let place = Place::new();
    let mut guard = place.guard("agent/api.sock");
    // It is root's, and so are others on the way.
    guard.agent = None;
    guard.unmapped = Some(ROOT);
    let error = guard.look().unwrap_err();
    assert!(error.to_string().contains("(/, uid 0)"), "{error}");
}
