//! `features`: every crate must build and lint clean with no features and with each of its features alone. Whether a combination does
//! is not tried: features only add, and `--all-features` is what every other check runs with.

use serde_json::Value;

use crate::workspace::{Result, cargo, packages, run as run_command};

pub(crate) fn run() -> Result {
    for package in packages()? {
        let name = package["name"].as_str().ok_or("a package has no name")?;
        for feature in std::iter::once(None).chain(features_of(&package).into_iter().map(Some)) {
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

/// `default` is a selection of the others and no feature of its own.
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
    fn every_declared_feature_but_default_is_tried() {
        let package = serde_json::json!({ "features": { "default": ["a"], "a": [], "b": ["a"] } });
        assert_eq!(features_of(&package), ["a", "b"]);
        assert!(features_of(&Value::Null).is_empty());
    }
}
