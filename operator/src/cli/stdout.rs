//! Writing to stdout.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Writes all of it to stdout. Whoever reads no more of it, as `| head` does, has seen enough: that
/// is no failure.
pub(super) fn write(text: &str) -> anyhow::Result<()> {
    write_to(&mut io::stdout().lock(), text)
        .context("cannot write to stdout: is there room where it leads to?")
}

fn write_to(output: &mut impl Write, text: &str) -> io::Result<()> {
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails so at each write, or takes all and fails when it is flushed.
    struct Fails {
        how: ErrorKind,
        when_flushed: bool,
    }

    impl Write for Fails {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.when_flushed { Ok(bytes.len()) } else { Err(self.how.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.how.into())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
        for when_flushed in [false, true] {
            let written = |how| write_to(&mut Fails { how, when_flushed }, "text\n");
            assert!(written(ErrorKind::BrokenPipe).is_ok());
            let failed = written(ErrorKind::StorageFull).expect_err("not written");
            assert_eq!(failed.kind(), ErrorKind::StorageFull);
        }
        let mut all = Vec::new();
        write_to(&mut all, "text").expect("written");
        assert_eq!(all, b"text");
    }
}
