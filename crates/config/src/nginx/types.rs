//! `types`, `default_type`, and the lists of media types that other directives take.

use std::collections::BTreeMap;
use std::rc::Rc;

use conf_syntax::Directive;

use super::built_in;
use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};

/// Media types by extension.
pub(super) type Types = BTreeMap<Vec<u8>, Vec<u8>>;

const HASH: &str = "tables grow as they must";

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "types",
        Context::ALL,
        Count::exactly(0),
        Apply::Custom(|r, l, d| r.types(l, d)),
        "html, gif and jpg",
        "Media types by extension: `text/html html htm;`.",
    )
    .block()
    .repeats(),
    Row::one(
        "default_type",
        Context::ALL,
        Apply::Text(|l| &mut l.default_type),
        "text/plain",
        "The media type of a file whose extension has none.",
    ),
    Row::one(
        "types_hash_max_size",
        Context::ALL,
        Apply::Quiet(Argument::Number, HASH),
        "1024",
        "Size of a table.",
    ),
    Row::one(
        "types_hash_bucket_size",
        Context::ALL,
        Apply::Quiet(Argument::Number, HASH),
        "64",
        "Size of a bucket.",
    ),
];

/// nginx's types, where no block says others.
pub(super) fn default_table() -> Rc<Types> {
    let rows = [("html", "text/html"), ("gif", "image/gif"), ("jpg", "image/jpeg")];
    Rc::new(rows.iter().map(|(e, t)| (e.as_bytes().to_vec(), t.as_bytes().to_vec())).collect())
}

/// A list of media types; `None` is all.
pub(super) type TypeList = Rc<Option<Vec<Vec<u8>>>>;

impl<'a> Reader<'a> {
    fn types(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(block) = directive.block else { return };
        let types = Rc::make_mut(level.types.get_or_insert_default());
        for line in block.directives {
            self.begin(&line);
            if line.block.is_some() {
                self.error(line.head(), "unexpected \"{\"")
                    .help("a line is a media type and its extensions: `text/html html htm;`");
                continue;
            }
            if line.args.is_empty() {
                let text = line.name.text().into_owned();
                self.warning(line.head(), format!("content type \"{text}\" has no extension"))
                    .help("a line is a media type and its extensions: `text/html html htm;`");
            }
            for extension in line.args {
                let name = extension.value.to_ascii_lowercase();
                let other = types.insert(name.clone(), line.name.value.to_vec());
                // What the file of types that we bring has more than nginx's, or says as well, is no news to anybody.
                let is_ours = |other: &Vec<u8>| {
                    built_in::media_type(self.sources, &name).is_some_and(|ours| {
                        ours == other.as_slice() && (name == b"mjs" || other.as_slice() == line.name.value)
                    })
                };
                if let Some(other) = other.filter(|other| !is_ours(other)) {
                    let (text, new) = (extension.text().into_owned(), line.name.text().into_owned());
                    let other = String::from_utf8_lossy(&other).into_owned();
                    self.warning(
                        extension.span,
                        format!(
                            "duplicate extension \"{text}\", content type: \"{new}\", previous content \
             type: \"{other}\""
                        ),
                    );
                }
            }
        }
    }

    /// The words of `gzip_types` and its like: text/html is always among them, `*` is all.
    pub(super) fn type_list(&mut self, slot: &mut Option<TypeList>, directive: Directive<'a>) {
        let list = Rc::make_mut(slot.get_or_insert_with(|| Rc::new(Some(vec![b"text/html".to_vec()]))));
        for word in directive.args {
            let name = word.value.to_ascii_lowercase();
            if name == b"*" {
                *list = None;
                continue;
            }
            let Some(types) = list else { continue };
            if types.contains(&name) {
                let text = word.text().into_owned();
                self.warning(word.span, format!("duplicate MIME type \"{text}\""));
            } else {
                types.push(name);
            }
        }
    }
}
