//! The threat model's check against small documents: above all that it fails where it must, and says where and what to do.

use super::*;

fn ran() -> Vec<Ran> {
    let passed = |path: &str| Ran {
        path: path.to_owned(),
        passed: true,
    };
    vec![
        passed("secret-resolver::layers::cache::tests::expired_entry_is_refetched_once"),
        passed("secret-resolver-vault::openbao::login::a_dead_token_is_renewed"),
        passed("twice::a::same_name"),
        Ran {
            path: "twice::b::same_name".to_owned(),
            passed: false,
        },
    ]
}

/// Two proved rows in lines 5 and 6, and a limit in line 10.
const DOCUMENT: &str = "# Threats\n\n| Id | Claim |\n|---|---|\n| N-01 | a: L-01 |\n| N-02 | b |\n\n| Limit | |\n|---|---|\n| L-01 | c |\n";

/// Their entries, in lines 1 and 3.
const ENTRIES: &str = "N-01:\n  a::same_name\nN-02:\n  login::a_dead_token_is_renewed\n";

/// What the check says, each with its file's first letters and its line.
fn reported(document: &str, entries: &str) -> Vec<String> {
    faults(document, entries, &ran())
        .into_iter()
        .map(|fault| {
            let file = if fault.file == "THREAT_MODEL.md" {
                "doc"
            } else {
                "tests"
            };
            format!("{file}:{}: {}", fault.line, fault.what)
        })
        .collect()
}

/// What it says where the first row has this text and the first entry this after its id.
fn of_row(text: &str, entry: &str) -> Vec<String> {
    reported(
        &DOCUMENT.replace("a: L-01", text),
        &ENTRIES.replace("N-01:\n  a::same_name", &format!("N-01:{entry}")),
    )
}

/// Whether it says this one thing, which begins like this.
fn is_only(reported: &[String], start: &str) -> bool {
    reported.len() == 1 && reported[0].starts_with(start)
}

#[test]
fn a_document_and_its_entries_that_fit_pass() {
    assert_eq!(reported(DOCUMENT, ENTRIES), [""; 0]);
    let spaced = format!(
        "# what proves it\n\n{}",
        ENTRIES.replace("N-02", "\n# more\nN-02")
    );
    assert_eq!(reported(DOCUMENT, &spaced), [""; 0]);
}

#[test]
fn a_test_that_passed_is_found_by_any_end_of_its_path() {
    for name in [
        "secret-resolver-vault::openbao::login::a_dead_token_is_renewed",
        "secret_resolver_vault::openbao::login::a_dead_token_is_renewed",
        "openbao::login::a_dead_token_is_renewed",
        "login::a_dead_token_is_renewed",
        "a::same_name",
    ] {
        assert_eq!(of_row("x", &format!("\n  {name}")), [""; 0], "{name}");
    }
}

#[test]
fn a_test_that_did_not_run_fails_the_check_with_its_line() {
    for name in [
        "login::no_such_test",
        "wrong::a_dead_token_is_renewed",
        "gin::a_dead_token_is_renewed",
        "login::a_dead_token",
    ] {
        assert_eq!(
            of_row(
                "x",
                &format!("\n  login::a_dead_token_is_renewed\n  {name}")
            ),
            [format!(
                "tests:3: `{name}` did not run: correct its path, or write the test"
            )]
        );
    }
}

#[test]
fn a_test_that_failed_fails_the_check_even_where_its_name_fits_one_that_passed() {
    let what = "did not pass (twice::b::same_name): repair it, or withdraw the claim";
    assert_eq!(
        of_row("x", "\n  b::same_name"),
        [format!("tests:2: `b::same_name` {what}")]
    );
    let mut ran = ran();
    ran.push(Ran {
        path: "more::a::same_name".to_owned(),
        passed: false,
    });
    let faults = faults(DOCUMENT, ENTRIES, &ran);
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0]
            .what
            .starts_with("`a::same_name` did not pass (more::")
    );
}

#[test]
fn an_entry_without_a_test_fails_the_check_with_its_line() {
    assert!(is_only(
        &of_row("x", ""),
        "tests:1: N-01 names no test: write its tests"
    ));
    for after in [
        " none:",
        " none",
        " soon",
        " not yet, but soon",
        " login::a_dead_token_is_renewed",
    ] {
        let reported = of_row("x", after);
        let start = format!(
            "tests:1: `{}` says nothing about  N-01: write its",
            after.trim()
        );
        assert!(is_only(&reported, &start), "{after}: {reported:?}");
    }
}

#[test]
fn a_line_that_is_not_a_path_fails_the_check() {
    for line in [
        "a_test_without_its_path",
        "a::same_name, login::a_dead_token_is_renewed",
        "`a::same_name`",
        "not yet",
    ] {
        let reported = of_row("x", &format!("\n  a::same_name\n  {line}"));
        let start = format!("tests:3: `{line}` is not a path of a test: write");
        assert!(is_only(&reported, &start), "{reported:?}");
    }
}

#[test]
fn what_has_no_test_says_so_in_its_row_too() {
    assert_eq!(of_row("x **Not yet.** y", " not yet"), [""; 0]);
    assert_eq!(
        of_row(
            "**No test:** the kernel's part.",
            " none: the kernel's part"
        ),
        [""; 0]
    );
    let entry_only = [
        ("x", " not yet", "`**Not yet.**`"),
        (
            "x",
            " none: the kernel's part",
            "`**No test:** the kernel's part`",
        ),
        (
            "**No test:** another",
            " none: the kernel's part",
            "`**No test:** the kernel's part`",
        ),
    ];
    for (row, entry, mark) in entry_only {
        let reported = of_row(row, entry);
        let start = format!("doc:5: N-01 has to say {mark}");
        assert!(is_only(&reported, &start), "{reported:?}");
    }
    for mark in ["**Not yet.**", "**No test:**"] {
        let reported = of_row(&format!("{mark} x"), "\n  a::same_name");
        let start = format!("doc:5: N-01 says `{mark}`, and its entry");
        assert!(is_only(&reported, &start), "{reported:?}");
    }
    assert_eq!(of_row("**Not yet.**", " none: x").len(), 2);
}

#[test]
fn an_entry_that_denies_its_tests_fails_the_check() {
    for (row, entry) in [("**Not yet.**", " not yet"), ("**No test:** x", " none: x")] {
        let reported = of_row(row, &format!("{entry}\n  a::same_name"));
        assert!(
            is_only(
                &reported,
                "tests:1: N-01 says that there is no test, and names some"
            ),
            "{reported:?}"
        );
    }
}

#[test]
fn a_row_and_its_entry_are_missed_where_one_stands_alone() {
    let row = DOCUMENT.replace("| N-02 | b |", "| N-02 | b |\n| N-03 | c |");
    assert!(is_only(
        &reported(&row, ENTRIES),
        "doc:7: N-03 has no entry: add it to threat-model-tests.txt"
    ));
    let entry = format!("{ENTRIES}N-03:\n  a::same_name\n");
    assert!(is_only(
        &reported(DOCUMENT, &entry),
        "tests:5: N-03 is not a row of THREAT_MODEL.md: add the row"
    ));
    // A limit is not a guarantee.
    let limit = format!("{ENTRIES}L-01:\n  a::same_name\n");
    assert!(is_only(
        &reported(DOCUMENT, &limit),
        "tests:5: L-01 is not a row of THREAT_MODEL.md"
    ));
}

#[test]
fn an_id_stands_once_in_each_file() {
    for twice in ["| N-01 | c |", "\n| Limit |\n|---|\n| N-01 |"] {
        let row = format!("{DOCUMENT}{twice}\n");
        let reported = reported(&row, ENTRIES);
        assert!(
            reported.len() == 1
                && reported[0].ends_with("N-01 is the id of line 5, too: give this row its own id"),
            "{reported:?}"
        );
    }
    let entry = format!("{ENTRIES}N-02:\n  a::same_name\n");
    assert!(is_only(
        &reported(DOCUMENT, &entry),
        "tests:5: N-02 has an entry in line 3, too"
    ));
    let test = ENTRIES.replace("  a::same_name", "  a::same_name\n  a::same_name");
    assert!(is_only(
        &reported(DOCUMENT, &test),
        "tests:3: N-01 names `a::same_name` twice"
    ));
}

#[test]
fn a_row_without_a_proper_id_fails_the_check() {
    for id in [
        "", "N1", "N-1", "N-001", "n-01", "NNN-01", "-01", "N-0a", "**N**", "É-03",
    ] {
        let row = DOCUMENT.replace("| N-02 | b |", &format!("| N-02 | b |\n| {id} | c |"));
        let reported = reported(&row, ENTRIES);
        assert!(
            is_only(
                &reported,
                &format!("doc:7: `{id}` is not an id: start the row with")
            ),
            "{id}: {reported:?}"
        );
    }
    let limit = DOCUMENT.replace("| L-01 | c |", "| L-01 | c |\n| c | d |");
    assert!(is_only(
        &reported(&limit, ENTRIES),
        "doc:11: `c` is not an id"
    ));
}

#[test]
fn a_line_that_begins_no_entry_fails_the_check() {
    for line in ["N-3:", "N-03", "a::same_name", "threats:"] {
        let reported = reported(DOCUMENT, &format!("{ENTRIES}{line}\n"));
        let start = format!("tests:5: `{line}` does not begin an entry: write the id");
        assert!(is_only(&reported, &start), "{reported:?}");
    }
    let first = format!("  a::same_name\n{ENTRIES}");
    assert!(is_only(
        &reported(DOCUMENT, &first),
        "tests:1: `a::same_name` stands before the first entry"
    ));
}

#[test]
fn entries_keep_the_order_of_the_rows() {
    let swapped = "N-02:\n  login::a_dead_token_is_renewed\nN-01:\n  a::same_name\n";
    assert!(is_only(
        &reported(DOCUMENT, swapped),
        "tests:3: N-01 stands after N-02, and before it in THREAT_MODEL.md: put the entries"
    ));
}

#[test]
fn an_id_that_is_referred_to_is_defined() {
    for (text, id) in [
        ("see L-02", "L-02"),
        ("(N-09)", "N-09"),
        ("L-01–L-07.", "L-07"),
    ] {
        let start = format!("doc:5: {id} is not a row of this document");
        assert!(is_only(&of_row(text, "\n  a::same_name"), &start), "{text}");
    }
    let prose = format!("{DOCUMENT}\nAs N-01 and L-03 say.\n");
    assert!(is_only(
        &reported(&prose, ENTRIES),
        "doc:12: L-03 is not a row"
    ));
    // What only looks like one.
    let text = "UTF-16, a TLS-1.3 of L-011 and N-1, sha-25, AL-01x";
    assert_eq!(of_row(text, "\n  a::same_name"), [""; 0]);
}

#[test]
fn a_table_without_ids_or_with_tests_fails_the_check() {
    for (headings, line) in [
        (
            "| Claim | Id |",
            "this table does not start with a column `Id`",
        ),
        (
            "| Id | Claim | Test |",
            "this table has a column for tests: name them in",
        ),
        ("| Id | Tests |", "this table has a column for tests"),
        ("| Limit | Test |", "this table has a column for tests"),
    ] {
        let more = format!("{DOCUMENT}\n{headings}\n|--|--|\n");
        assert!(
            is_only(&reported(&more, ENTRIES), &format!("doc:12: {line}")),
            "{headings}"
        );
    }
}

#[test]
fn files_that_name_nothing_fail_the_check() {
    let empty = reported("", "");
    assert_eq!(
        empty,
        [
            "doc:1: no table has a row with an id: start each with a column `Id`",
            "tests:1: no entry names any test"
        ]
    );
    let document = "| Id | Claim |\n|---|---|\n| N-01 | **Not yet.** |\n";
    assert_eq!(
        reported(document, "N-01: not yet\n"),
        ["tests:1: no entry names any test"]
    );
}

#[test]
fn what_stands_in_code_blocks_is_not_a_row_and_refers_to_nothing() {
    let fenced = "```\n| Id | Claim |\n|---|---|\n| N-07 | L-09 |\n```\n";
    assert_eq!(reported(&format!("{DOCUMENT}\n{fenced}"), ENTRIES), [""; 0]);
    // And a table ends where a block begins.
    let after = reported(&format!("{DOCUMENT}{fenced}| N-08 | d |\n"), ENTRIES);
    assert!(is_only(&after, "doc:16: N-08 is not a row"), "{after:?}");
}

#[test]
fn a_bar_after_a_backslash_ends_no_cell() {
    let document = DOCUMENT.replace("| Id | Claim |", "| Id | Claim \\| Test |");
    assert_eq!(reported(&document, ENTRIES), [""; 0]);
}
