// SPDX-License-Identifier: GPL-2.0
//! From what the module says about a process to obstacles with words for them.

use super::process::ProcessFacts;
use super::Found;
use super::HostNamespaces;
use crate::capture;
use pmig_core::admission;
use pmig_core::admission::Context;
use pmig_core::obstacle::source;
use pmig_core::obstacle::Object;
use pmig_wire::file::File;
use pmig_wire::mm::Vma;
use pmig_wire::record::Kind;
use pmig_wire::record::Reader;
use std::collections::HashMap;

/// What admission has to know about this host and the process with this PID.
pub fn context(pid: u32) -> Context {
    Context {
        host: Some(HostNamespaces::own().into()),
        made_by_pmig: capture::is_pmig_namespace(pid),
        own_pid: std::process::id(),
    }
}

/// Everything that the records of a survey or a capture say against a migration, refusals first.
pub fn of_records(records: &[u8], context: &Context) -> Vec<Found> {
    let names = Names::of(records);
    let mut found = Vec::new();
    admission::records(&Reader::new(records), context, &mut |obstacle, object| {
        found.push(match names.of_object(object) {
            Some(name) => Found::new(obstacle, name),
            None => Found::process(obstacle),
        });
    });
    found.sort_by_key(|found| !found.refuses());
    found
}

/// What every migration of this process changes although nothing refuses it: what only `/proc` tells.
pub fn notes(process: &ProcessFacts) -> Vec<Found> {
    let mut found: Vec<Found> = admission::ALWAYS
        .iter()
        .map(|obstacle| Found::process(obstacle))
        .collect();
    if !matches!(process.cgroup.as_str(), "" | "/") {
        found.push(Found::process(&source::CGROUP_CHANGES));
    }
    found
}

/// How the things in a record stream are called.
struct Names {
    files: HashMap<u32, String>,
    mappings: HashMap<u64, u32>,
}

impl Names {
    fn of(records: &[u8]) -> Self {
        let mut names = Self {
            files: HashMap::new(),
            mappings: HashMap::new(),
        };
        for record in Reader::new(records).map_while(Result::ok) {
            match record.kind {
                Kind::File => {
                    if let Ok((file, path)) = record.parse::<File>() {
                        names.files.insert(file.id.get(), printable(path));
                    }
                }
                Kind::Vma => {
                    if let Ok((vma, _)) = record.parse::<Vma>() {
                        names.mappings.insert(vma.start.get(), vma.file.get());
                    }
                }
                _ => {}
            }
        }
        names
    }

    fn path(&self, file: u32) -> Option<&str> {
        self.files
            .get(&file)
            .map(String::as_str)
            .filter(|path| !path.is_empty())
    }

    /// `None` for the process as a whole.
    fn of_object(&self, object: Object) -> Option<String> {
        let path = match object {
            Object::Process => return None,
            Object::File { file } => {
                return Some(
                    self.path(file)
                        .map_or_else(|| object.to_string(), str::to_owned),
                )
            }
            Object::Descriptor { file, .. } => self.path(file),
            Object::Mapping { start, .. } => {
                self.mappings.get(&start).and_then(|file| self.path(*file))
            }
            _ => None,
        };
        Some(match path {
            Some(path) => format!("{object} ({path})"),
            None => object.to_string(),
        })
    }
}

/// A path that cannot play tricks on a terminal.
fn printable(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::image::OpenFile;
    use pmig_wire::file::Descriptor;
    use pmig_wire::file::FileKind;
    use zerocopy::FromZeros;

    fn with_socket(path: &[u8]) -> Vec<u8> {
        let mut image = Image::empty(1000);
        let mut file = File::new_zeroed();
        file.id.set(1);
        file.kind.set(FileKind::Socket as u16);
        image.files.push(OpenFile {
            file,
            path: path.to_vec(),
        });
        let mut descriptor = Descriptor::new_zeroed();
        descriptor.fd.set(5);
        descriptor.file.set(1);
        image.descriptors.push(descriptor);
        image.to_records()
    }

    #[test]
    fn objects_have_names() {
        let found = of_records(&with_socket(b"/run/\x1b[31mx"), &Context::default());
        assert_eq!(
            found[0].message,
            "descriptor 5 (/run/\u{fffd}[31mx) is a socket"
        );
        let found = of_records(&with_socket(b""), &Context::default());
        assert_eq!(found[0].object, "descriptor 5");
    }

    #[test]
    fn refusals_come_first() {
        let found = of_records(&with_socket(b""), &Context::default());
        assert!(found[0].refuses());
        assert!(found[1..].iter().all(|found| !found.refuses()), "{found:?}");
    }
}
