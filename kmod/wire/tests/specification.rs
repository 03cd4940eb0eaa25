// SPDX-License-Identifier: GPL-2.0

//! `kmod/pmig.yaml` and `netlink.rs` describe the same family.

use std::collections::BTreeMap;

use pmig_wire::netlink;
use pmig_wire::netlink::Command;

const SPECIFICATION: &str = include_str!("../../pmig.yaml");
const NETLINK: &str = include_str!("../src/netlink.rs");
const THREAD: &str = include_str!("../src/thread.rs");

/// A mapping in a sequence of the specification: its scalar keys, and where it is.
#[derive(Debug, Default)]
struct Item {
    section: String,
    indent: usize,
    parent: Option<usize>,
    keys: BTreeMap<String, String>,
}

impl Item {
    fn key(&self, name: &str) -> &str {
        self.keys.get(name).map_or("", String::as_str)
    }
}

/// The items of the specification. This reads only what that file is made of: every item begins with a `-` of its own.
fn items() -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut section = String::new();
    for line in SPECIFICATION.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if indent == 0 {
            section = text.trim_end_matches(':').to_owned();
        }
        if text == "-" {
            let parent = items
                .iter()
                .rposition(|item| item.section == section && item.indent < indent + 2);
            items.push(Item {
                section: section.clone(),
                indent: indent + 2,
                parent,
                keys: BTreeMap::new(),
            });
        } else if let Some((key, value)) = text.split_once(':') {
            if let Some(item) = items
                .iter_mut()
                .rfind(|item| item.indent == indent && item.section == section)
            {
                item.keys.insert(key.to_owned(), value.trim().to_owned());
            }
        }
    }
    items
}

/// The value of a key at the top of the specification.
fn top(key: &str) -> Option<&'static str> {
    SPECIFICATION
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// The variants of an enum in a source file: names in kebab-case, numbers, and the first sentence of the documentation.
fn variants(source: &str, name: &str) -> Vec<(String, u64, String)> {
    let header = format!("pub enum {name} {{");
    let body = source.split_once(&header).expect("the enum is there").1;
    let body = body.split_once("\n}").expect("the enum ends").0;
    let mut doc = String::new();
    let mut variants = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            if doc.is_empty() {
                doc = text.trim().to_owned();
            }
        } else if let Some((name, number)) = line.split_once(" = ") {
            let number = number.trim_end_matches(',').parse().expect("a number");
            variants.push((kebab(name), number, std::mem::take(&mut doc)));
        }
    }
    assert!(!variants.is_empty(), "{name} has no variants");
    variants
}

fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

fn named(item: &Item) -> (String, u64) {
    let number = item.key("value").parse();
    (
        item.key("name").to_owned(),
        number.unwrap_or_else(|_| panic!("no value: {item:?}")),
    )
}

#[test]
fn family_version_and_group_are_equal() {
    assert_eq!(top("name"), Some(netlink::FAMILY));
    // A specification of this protocol has no version of the family: tools send 1.
    assert_eq!(top("protocol"), Some("genetlink"));
    assert_eq!(netlink::VERSION, 1);
    let items = items();
    let groups: Vec<&str> = items
        .iter()
        .filter(|item| item.section == "mcast-groups")
        .map(|item| item.key("name"))
        .collect();
    assert_eq!(groups, [netlink::EVENTS]);
}

#[test]
fn commands_have_equal_names_and_numbers() {
    let items = items();
    let specified: Vec<(String, u64)> = items
        .iter()
        .filter(|item| item.section == "operations")
        .map(named)
        .collect();
    let defined: Vec<(String, u64)> = Command::ALL
        .into_iter()
        .map(|command| (kebab(&format!("{command:?}")), u64::from(command as u8)))
        .collect();
    assert_eq!(specified, defined);
}

#[test]
fn dumps_are_dumps_and_events_are_events() {
    let items = items();
    for (name, _, doc) in variants(NETLINK, "Command") {
        let kind = match doc.split('.').next() {
            Some("Dump") => "dump",
            Some("Multicast") => "event",
            _ => "do",
        };
        let item = items
            .iter()
            .find(|item| item.section == "operations" && item.key("name") == name)
            .unwrap_or_else(|| panic!("{name} is not specified"));
        for other in ["do", "dump", "event"] {
            assert_eq!(
                item.keys.contains_key(other),
                other == kind,
                "{name}: {other}"
            );
        }
    }
}

#[test]
fn attributes_have_equal_names_numbers_and_types() {
    let items = items();
    let specified: Vec<(String, u64, String)> = items
        .iter()
        .filter(|item| item.section == "attribute-sets" && item.parent.is_some())
        .map(|item| {
            let (name, number) = named(item);
            (name, number, item.key("type").to_owned())
        })
        .collect();
    let defined: Vec<(String, u64, String)> = variants(NETLINK, "Attribute")
        .into_iter()
        .map(|(name, number, doc)| {
            let word = doc.split([' ', ',', '.', ':']).next().unwrap_or_default();
            let kind = match word {
                "u8" | "u32" | "u64" => word.to_owned(),
                "String" => "string".to_owned(),
                "Flag" => "flag".to_owned(),
                // "Bytes" or how many of them.
                _ => "binary".to_owned(),
            };
            (name, number, kind)
        })
        .collect();
    assert_eq!(specified, defined);
    assert_eq!(
        specified.last().map(|last| last.1),
        Some(u64::from(netlink::Attribute::MAX))
    );
}

#[test]
fn enums_have_equal_names_and_numbers() {
    let items = items();
    for (name, source) in [
        ("Role", NETLINK),
        ("SessionState", NETLINK),
        ("RestartKind", THREAD),
    ] {
        let definition = items
            .iter()
            .position(|item| item.section == "definitions" && item.key("name") == kebab(name))
            .unwrap_or_else(|| panic!("{name} is not specified"));
        let specified: Vec<(String, u64)> = items
            .iter()
            .filter(|item| item.parent == Some(definition))
            .map(named)
            .collect();
        let defined: Vec<(String, u64)> = variants(source, name)
            .into_iter()
            .map(|(name, number, _)| (name, number))
            .collect();
        assert_eq!(specified, defined, "{name}");
    }
}

#[test]
fn attributes_that_operations_name_exist() {
    let items = items();
    let attributes: Vec<&str> = items
        .iter()
        .filter(|item| item.section == "attribute-sets" && item.parent.is_some())
        .map(|item| item.key("name"))
        .collect();
    let operations = SPECIFICATION
        .split_once("\noperations:")
        .expect("there are operations")
        .1;
    for line in operations.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- ") {
            assert!(attributes.contains(&name), "there is no attribute {name}");
        }
    }
}
