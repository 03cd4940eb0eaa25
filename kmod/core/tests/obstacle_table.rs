// SPDX-License-Identifier: GPL-2.0
//! What the table of obstacles promises.

use pmig_core::admission;
use pmig_core::feature;
use pmig_core::feature::Coverage;
use pmig_core::obstacle;
use std::collections::BTreeSet;

#[test]
fn codes_are_unique_and_kebab_case() {
    let mut seen = BTreeSet::new();
    for obstacle in obstacle::all() {
        assert!(seen.insert(obstacle.code), "{} comes twice", obstacle.code);
        let good = obstacle.code.split('-').all(|word| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        });
        assert!(good, "{}", obstacle.code);
        assert_eq!(obstacle::find(obstacle.code), Some(obstacle));
    }
    assert_eq!(obstacle::find("no-such-code"), None);
}

#[test]
fn words_are_one_line_without_full_stop() {
    for obstacle in obstacle::all() {
        for text in [obstacle.template, obstacle.hint] {
            assert!(
                !text.is_empty() && !text.contains('\n') && !text.ends_with('.'),
                "{}",
                obstacle.code
            );
            assert!(text.len() <= 110, "{}: {text}", obstacle.code);
        }
        assert!(
            obstacle.template.matches("{object}").count() <= 1,
            "{}",
            obstacle.code
        );
    }
}

#[test]
fn messages_name_their_object() {
    let message = obstacle::source::SOCKET
        .message(&"descriptor 5")
        .to_string();
    assert_eq!(message, "descriptor 5 is a socket");
    let message = obstacle::selection::SAME_HOST.message(&"x").to_string();
    assert_eq!(message, "source and destination are the same host");
}

#[test]
fn features_are_those_of_the_plan() {
    let letters = ["M", "T", "F", "X", "P", "O"];
    for obstacle in obstacle::all() {
        let (letter, number) = obstacle.feature.split_at(1);
        assert!(
            letters.contains(&letter) && number.parse::<u32>().is_ok(),
            "{}",
            obstacle.code
        );
        if ["M", "T", "F"].contains(&letter) {
            assert!(
                feature::find(obstacle.feature).is_some(),
                "{}",
                obstacle.code
            );
        }
    }
}

/// What is not moved must be refused or noted by name; kinds of sockets share one code.
#[test]
fn every_feature_that_is_not_moved_has_a_code() {
    let sockets = ["F7", "F8", "F9", "F10", "F11", "F12"];
    for feature in feature::FEATURES {
        let id = if sockets.contains(&feature.id) {
            "F6"
        } else {
            feature.id
        };
        let mut own = obstacle::all().filter(|obstacle| obstacle.feature == id);
        match feature.coverage {
            Coverage::Refused => assert!(own.any(|obstacle| obstacle.refuses()), "{}", feature.id),
            Coverage::Noted => assert!(own.any(|obstacle| !obstacle.refuses()), "{}", feature.id),
            Coverage::Moved | Coverage::Part => {}
        }
    }
}

#[test]
fn admission_uses_only_the_table() {
    let used = admission::FACTS.iter().chain(admission::MAPPING_FLAGS);
    for (_, entry) in used {
        assert!(entry.refuses());
        assert!(
            obstacle::all().any(|obstacle| std::ptr::eq(obstacle, *entry)),
            "{}",
            entry.code
        );
    }
}
