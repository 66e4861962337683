//! Good files with something wrong in them: rows X4 to X6 of the bad input tables by chance.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use restpipe_identity::Usage;
use rustls::pki_types::pem::{PemObject, SectionKind};

use crate::reload::reload;
use crate::support::{ca, issue, now, pem};

/// The blocks of a server's tls.crt, tls.key and ca.crt: the bundle has two roots.
type Files = [Vec<(String, Vec<u8>)>; 3];

static GOOD: LazyLock<Files> = LazyLock::new(|| {
    let (signs, other) = (ca(), ca());
    let leaf = issue(&signs, "hub.shop.servers.restpipe", Usage::Server);
    let bundle = format!("{}{}", other.cert_pem(), signs.cert_pem());
    [leaf.cert_pem.as_str(), leaf.key_pem.expose(), &bundle].map(|text| {
        let blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes());
        blocks
            .map(|block| {
                let (kind, der) = block.expect("it was just written");
                let label = match kind {
                    SectionKind::Certificate => "CERTIFICATE",
                    _ => "PRIVATE KEY",
                };
                (label.to_owned(), der)
            })
            .collect()
    })
});

fn text(files: &Files) -> [Vec<u8>; 3] {
    files
        .each_ref()
        .map(|blocks| blocks.iter().flat_map(|(label, der)| pem(label, der).into_bytes()).collect())
}

fn taken(texts: &[Vec<u8>; 3]) -> bool {
    let [cert, key, ca] = texts;
    reload(cert, key, ca, now())
}

/// What may happen to a file.
#[derive(Clone, Debug)]
enum Edit {
    /// Bits of the block's contents turn; it is written as PEM then, as if that were right.
    Flip(Index, Index, u8),
    /// A block is there twice.
    Double(Index),
    /// A block stands in another file too.
    Copy(Index, usize),
    /// A byte of the text is another one.
    Byte(Index, u8),
    /// The text ends here.
    Cut(Index),
    /// Some of the text is not there.
    Gap(Index, Index),
    /// Something is there that was not.
    Insert(Index, Vec<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    let insert = prop_oneof![
        vec(any::<u8>(), 1..8),
        prop::sample::select(vec!["\n", "\r\n", "-----", "# mine\n", "-----BEGIN X-----\n", "="])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        4 => (index(), index(), 1_u8..).prop_map(|(block, at, bits)| Edit::Flip(block, at, bits)),
        1 => index().prop_map(Edit::Double),
        1 => (index(), 0_usize..3).prop_map(|(block, to)| Edit::Copy(block, to)),
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        1 => index().prop_map(Edit::Cut),
        1 => (index(), index()).prop_map(|(from, to)| Edit::Gap(from, to)),
        2 => (index(), insert).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
    ]
}

/// The good files after `edits`, each of the file that stands with it. Those of blocks come first,
/// since after one of the text there may be none.
fn edited(edits: &[(usize, Edit)]) -> [Vec<u8>; 3] {
    let mut files = GOOD.clone();
    for (file, edit) in edits {
        let blocks = &mut files[*file];
        match edit {
            Edit::Flip(block, at, bits) => {
                let block = block.index(blocks.len());
                let der = &mut blocks[block].1;
                let at = at.index(der.len());
                der[at] ^= bits;
            }
            Edit::Double(block) => {
                let block = blocks[block.index(blocks.len())].clone();
                blocks.push(block);
            }
            Edit::Copy(block, to) => {
                let block = blocks[block.index(blocks.len())].clone();
                files[*to].push(block);
            }
            _ => {}
        }
    }
    let mut texts = text(&files);
    for (file, edit) in edits {
        let text = &mut texts[*file];
        let place = |at: &Index| at.index(text.len() + 1);
        match edit {
            Edit::Byte(at, byte) => {
                let at = place(at);
                text.splice(at..(at + 1).min(text.len()), [*byte]);
            }
            Edit::Cut(at) => {
                let at = place(at);
                text.truncate(at);
            }
            Edit::Gap(from, to) => {
                let (from, to) = (place(from), place(to));
                text.drain(from.min(to)..from.max(to));
            }
            Edit::Insert(at, bytes) => {
                let at = place(at);
                text.splice(at..at, bytes.iter().copied());
            }
            Edit::Flip(..) | Edit::Double(_) | Edit::Copy(..) => {}
        }
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn edited_files_are_a_good_identity_or_refused_in_one_line(
        edits in vec((0_usize..3, edit()), 1..4),
    ) {
        taken(&edited(&edits));
    }
}

#[test]
fn unedited_they_are_taken_and_cut_anywhere_before_their_last_line_end_they_are_not() {
    let whole = text(&GOOD);
    assert!(taken(&whole));
    for file in 0..3 {
        for len in 0..whole[file].len() - 1 {
            let mut cut = whole.clone();
            cut[file].truncate(len);
            // The other root of the bundle alone is a bundle, and signed nothing.
            assert!(!taken(&cut), "{len} bytes of file {file}");
        }
    }
}

#[test]
fn bits_of_what_the_ca_has_signed_do_not_turn_unseen() {
    let leaf_len = GOOD[0][0].1.len();
    for at in 0..leaf_len {
        let mut files = GOOD.clone();
        files[0][0].1[at] ^= 1;
        assert!(!taken(&text(&files)), "byte {at} of the leaf");
    }
}
