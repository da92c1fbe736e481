//! The threat model's check against small documents: above all that it fails where it must.

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

/// What the check says of a table with a Test column and this one cell in it, on line 5.
fn of_cell(cell: &str) -> Vec<String> {
    let other = "| b | `login::a_dead_token_is_renewed` |";
    let document = format!("# Threats\n\n| Claim | Test |\n|---|---|\n| a | {cell} |\n{other}\n");
    faults(&document, &ran())
        .into_iter()
        .map(|fault| format!("{}: {}", fault.line, fault.what))
        .collect()
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
        assert!(of_cell(&format!("`{name}`")).is_empty(), "{name}");
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
            of_cell(&format!("`login::a_dead_token_is_renewed`, `{name}`")),
            [format!("5: `{name}` did not run")]
        );
    }
}

#[test]
fn a_test_that_failed_fails_the_check() {
    assert_eq!(
        of_cell("`b::same_name`"),
        ["5: `b::same_name` did not pass (twice::b::same_name)"]
    );
}

#[test]
fn an_empty_test_cell_fails_the_check_with_its_line() {
    for cell in [
        "",
        "none:",
        "none",
        "soon",
        "`a_test_without_its_path`",
        "login::a_dead_token_is_renewed",
    ] {
        let faults = of_cell(cell);
        assert!(
            faults.len() == 1 && faults[0].starts_with("5: the Test cell names no test"),
            "{cell}: {faults:?}"
        );
    }
    for cell in ["not yet", "none: the kernel's part"] {
        assert!(of_cell(cell).is_empty(), "{cell}");
    }
}

#[test]
fn a_row_without_its_test_cell_fails_the_check() {
    let document = "Claim | Test\n--|--\na | `a::same_name`\nb |\n";
    assert_eq!(
        faults(document, &ran())
            .iter()
            .map(|fault| fault.line)
            .collect::<Vec<_>>(),
        [4]
    );
}

#[test]
fn a_document_that_names_no_test_fails_the_check() {
    for document in [
        "",
        "`login::a_dead_token_is_renewed`",
        "| Claim | Test |\n|---|---|\n| a | not yet |\n",
    ] {
        let faults = faults(document, &ran());
        assert!(
            faults.len() == 1 && faults[0].what == "no table names any test",
            "{document}: {faults:?}"
        );
    }
}

#[test]
fn without_a_test_column_every_path_in_a_row_counts() {
    let document = "| Claim | Proof |\n|---|---|\n| `no::such` | `a::same_name` |\n";
    assert_eq!(faults(document, &ran())[0].what, "`no::such` did not run");
}

#[test]
fn paths_in_other_columns_and_in_code_blocks_name_no_tests() {
    let table = "| Claim | Test |\n|---|---|\n| `std::env::set_var` \\| x | `a::same_name` |\n";
    let fenced = "```\n| Claim | Test |\n|---|---|\n| a | `no::such` |\n```\n";
    assert!(faults(&format!("{table}\n{fenced}"), &ran()).is_empty());
}

#[test]
fn two_tables_each_have_their_own_columns() {
    let document = "| Test | Claim |\n|---|---|\n| `a::same_name` | x |\n\n| Claim | Test |\n|---|---|\n| x | |\n";
    assert_eq!(
        faults(document, &ran())
            .iter()
            .map(|fault| fault.line)
            .collect::<Vec<_>>(),
        [7]
    );
}
