//! A plan in words, for a report of what went wrong.

use std::fmt;

use super::{Place, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stack {}: {}", self.number, self.traits.join(", "))?;
        for step in &self.steps {
            let place = match step.place {
                Place::Host => "host  ",
                Place::Inside => "inside",
            };
            write!(f, "  {place}")?;
            for word in &step.words {
                write!(f, " {}", quoted(word))?;
            }
            match step.starts {
                Some(index) => writeln!(f, "   # program {index}")?,
                None => writeln!(f)?,
            }
        }
        for (index, program) in self.programs.iter().enumerate() {
            write!(f, "  program {index}: {}, mark {}", program.label, program.mark)?;
            match (&program.file, program.none) {
                (_, Some(why)) => write!(f, ", no host path: {why}")?,
                (Some(file), None) => write!(f, ", runs {}", quoted(file))?,
                (None, None) => {}
            }
            writeln!(
                f,
                ", role {}, copied_up {}, state {}",
                program.role.unwrap_or("?"),
                program.copied_up.unwrap_or("?"),
                program.state.unwrap_or("?")
            )?;
        }
        Ok(())
    }
}

/// Bytes as a shell's `$'...'` takes them, bare where nothing needs it.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let bare = |byte: &u8| byte.is_ascii_alphanumeric() || b"@/._-+=:".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(bare) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = "$'".to_owned();
    for byte in bytes {
        match byte {
            b'\'' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('\'');
    text
}
