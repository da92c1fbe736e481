//! The part of YAML that policies are written in: blocks of lists and maps, tags, anchors, lists in brackets, plain and quoted text.
//! It has no text of several lines, no maps in braces and no escapes but those of JSON.

use std::collections::BTreeMap;

use super::Failure;

/// One value, with its tag and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    /// Without the `!`.
    pub(super) tag: Option<String>,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Nothing,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A member of a map.
    pub(super) fn member(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(members) => members.iter().find(|(key, _)| key == name).map(|it| &it.1),
            _ => None,
        }
    }

    /// The items of a list, or the one value that stands for a list of one.
    pub(super) fn items(&self) -> Vec<&Node> {
        match &self.value {
            Value::List(items) => items.iter().flat_map(Node::items).collect(),
            _ => vec![self],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a document.
pub(super) fn parse(text: &str) -> Result<Node, Failure> {
    let lines = text.lines().enumerate().map(|(at, line)| {
        let content = line.trim_start();
        Line {
            number: at + 1,
            indent: line.len() - content.len(),
            content: content.trim_end(),
        }
    });
    let is_text = |line: &Line<'_>| {
        !line.content.is_empty() && !line.content.starts_with('#') && line.content != "---"
    };
    let mut parser = Parser {
        lines: lines.filter(is_text).collect(),
        at: 0,
        anchors: BTreeMap::new(),
    };
    let Some(first) = parser.lines.first() else {
        return Ok(Node {
            line: 1,
            tag: None,
            value: Value::Nothing,
        });
    };
    let node = parser.block(first.indent)?;
    match parser.lines.get(parser.at) {
        None => Ok(node),
        Some(line) => Err(Failure::text(line.number, "unexpected indentation")),
    }
}

#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    content: &'a str,
}

struct Parser<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
    anchors: BTreeMap<&'a str, Node>,
}

impl<'a> Parser<'a> {
    /// The list or the map whose lines are indented so.
    fn block(&mut self, indent: usize) -> Result<Node, Failure> {
        let line = self.lines.get(self.at).map_or(1, |line| line.number);
        let is_list = self.here(indent).is_some_and(|line| is_item(line.content));
        let value = if is_list {
            let mut items = Vec::new();
            while let Some(line) = self.here(indent).filter(|line| is_item(line.content)) {
                let rest = line
                    .content
                    .strip_prefix('-')
                    .unwrap_or_default()
                    .trim_start();
                if is_pair(rest) {
                    // A map that begins behind the dash: its first line is what stands there.
                    let inner = indent + line.content.len() - rest.len();
                    self.lines[self.at] = Line {
                        indent: inner,
                        content: rest,
                        ..line
                    };
                    items.push(self.block(inner)?);
                } else {
                    self.at += 1;
                    items.push(self.value(rest, line, indent, false)?);
                }
            }
            Value::List(items)
        } else {
            let mut members = Vec::new();
            while let Some(line) = self.here(indent).filter(|line| !is_item(line.content)) {
                let (key, rest) = pair(line.content)
                    .ok_or_else(|| Failure::text(line.number, "could not find expected ':'"))?;
                self.at += 1;
                members.push((unquote(key), self.value(rest, line, indent, true)?));
            }
            Value::Map(members)
        };
        Ok(Node {
            line,
            tag: None,
            value,
        })
    }

    fn here(&self, indent: usize) -> Option<Line<'a>> {
        let line = self.lines.get(self.at).copied();
        line.filter(|line| line.indent == indent)
    }

    /// What stands behind a dash or a key, or in the lines below it.
    fn value(
        &mut self,
        rest: &'a str,
        line: Line<'a>,
        indent: usize,
        in_map: bool,
    ) -> Result<Node, Failure> {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let after = after.trim_start();
        if let Some(name) = word.strip_prefix('&') {
            let node = self.value(after, line, indent, in_map)?;
            self.anchors.insert(name, node.clone());
            return Ok(node);
        }
        if let Some(tag) = word.strip_prefix('!') {
            let mut node = self.value(after, line, indent, in_map)?;
            node.line = line.number;
            node.tag = Some(tag.to_owned());
            return Ok(node);
        }
        if let Some(name) = word.strip_prefix('*') {
            let unknown = || Failure::text(line.number, format!("Unknown alias: {name}"));
            return self.anchors.get(name).cloned().ok_or_else(unknown);
        }
        if rest.is_empty() {
            let next = self.lines.get(self.at).copied();
            let below = next.filter(|next| {
                next.indent > indent || in_map && next.indent == indent && is_item(next.content)
            });
            return match below {
                Some(next) => self.block(next.indent),
                None => Ok(Node {
                    line: line.number,
                    tag: None,
                    value: Value::Nothing,
                }),
            };
        }
        let inside = rest
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let value = match inside {
            Some(inside) => {
                let items = inside
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                let items = items.map(|item| self.value(item, line, usize::MAX, false));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            None => Value::Text(unquote(rest)),
        };
        Ok(Node {
            line: line.number,
            tag: None,
            value,
        })
    }
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

fn is_pair(content: &str) -> bool {
    !content.starts_with(['!', '&', '*', '"', '\'', '[']) && pair(content).is_some()
}

fn pair(content: &str) -> Option<(&str, &str)> {
    match content.split_once(": ") {
        Some((key, rest)) => Some((key, rest.trim_start())),
        None => Some((content.strip_suffix(':')?, "")),
    }
}

fn unquote(text: &str) -> String {
    let single = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''));
    if let Some(single) = single {
        return single.replace("''", "'");
    }
    if text.starts_with('"') {
        return serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
    }
    text.split_once(" #")
        .map_or(text, |(text, _)| text.trim_end())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_with_its_tags_and_anchors() {
        let node = parse(
            "# a comment\n- !policy\n  id: prod\n  body:\n  - &all\n    - !variable \"a: b#c\"\n    - !variable\n      id: d # note\n  - !permit\n    privileges: [ read, execute ]\n    resource: *all\n- id: x\n  kind: y\n",
        )
        .unwrap();
        let [policy, pair] = node.items()[..] else {
            panic!("{node:?}")
        };
        assert_eq!(policy.tag.as_deref(), Some("policy"));
        let [first, second, permit] = policy.member("body").unwrap().items()[..] else {
            panic!("{policy:?}")
        };
        assert_eq!(first.text(), Some("a: b#c"));
        assert_eq!(second.member("id").unwrap().text(), Some("d"));
        assert_eq!(permit.member("resource").unwrap().items().len(), 2);
        assert_eq!(
            permit.member("privileges").unwrap().items()[1].text(),
            Some("execute")
        );
        assert_eq!(
            (permit.line, pair.member("kind").unwrap().text()),
            (9, Some("y"))
        );
    }

    #[test]
    fn what_is_no_policy_says_on_which_line() {
        for (text, wanted) in [("- a\n   - b\n", 2), ("x\n", 1), ("- *nothing\n", 1)] {
            match parse(text) {
                Err(Failure::Text { line, .. }) => assert_eq!(line, wanted, "{text}"),
                other => panic!("{text} gives {other:?}"),
            }
        }
    }
}
