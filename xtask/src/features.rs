//! `features`: every crate must build and lint clean with no features and with each of its features alone. Whether a combination does
//! is not tried: features only add, and `--all-features` is what every other check runs with.

use serde_json::Value;

use crate::workspace::{Result, cargo, packages, run as run_command};

pub(crate) fn run() -> Result {
    for package in packages()? {
        let name = package["name"].as_str().ok_or("a package has no name")?;
        let none = (!needs_a_feature(&package)).then_some(None);
        for feature in none
            .into_iter()
            .chain(features_of(&package).into_iter().map(Some))
        {
            println!(
                "{name}: {}",
                feature.map_or("no features".to_owned(), |feature| format!(
                    "feature {feature}"
                ))
            );
            let mut clippy = cargo();
            clippy.args([
                "clippy",
                "--quiet",
                "--locked",
                "--package",
                name,
                "--no-default-features",
            ]);
            clippy.args(
                feature
                    .map(|feature| ["--features", feature])
                    .iter()
                    .flatten(),
            );
            run_command(clippy.args(["--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

/// Whether a crate says in its manifest that it does not build without a choice among its features:
/// the transport and what stands on it need a provider of cryptography.
fn needs_a_feature(package: &Value) -> bool {
    package["metadata"]["xtask"]["needs-a-feature"] == Value::Bool(true)
}

/// `default` is a selection of the others and not its own feature.
fn features_of(package: &Value) -> Vec<&str> {
    let declared = package["features"].as_object().into_iter().flatten();
    declared
        .map(|(name, _)| name.as_str())
        .filter(|name| *name != "default")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_features_is_tried_unless_its_manifest_says_otherwise() {
        let package = serde_json::json!({ "metadata": { "xtask": { "needs-a-feature": true } } });
        assert!(needs_a_feature(&package));
        assert!(!needs_a_feature(&serde_json::json!({ "metadata": null })));
    }

    #[test]
    fn every_declared_feature_except_default_is_tried() {
        let package = serde_json::json!({ "features": { "default": ["a"], "a": [], "b": ["a"] } });
        assert_eq!(features_of(&package), ["a", "b"]);
        assert!(features_of(&Value::Null).is_empty());
    }
}
