//! Taking the values of environment variables out of JSON and key files, byte by byte.
//!
//! Engines keep a container's environment in the files that name it, and that is where passwords
//! are. Nothing here asks for the values, so a capture does without them. The text need not be
//! whole or sound: a file that is cut short keeps no secret either.

/// Keys whose list of `NAME=VALUE` texts is an environment: Docker's and the images', the OCI
/// runtime's; and the command line by which Podman was told to make a container, with its `-e`.
const KEYS: [&[u8]; 4] = [b"env", b"environ", b"environment", b"createcommand"];
/// The key of the CRI's own list.
const OBJECTS: &[u8] = b"envs";
/// What stands in the place of a value.
const GONE: &[u8] = b"redacted";

/// The group of variables in a key file: Flatpak's, of what an application was given.
const GROUP: &[u8] = b"[Environment]";

/// Turns until nothing is left; a sound file needs one.
const MOST_TURNS: usize = 100;

/// The text without the values of environment variables; `None` where it has none.
#[must_use]
pub fn environment(text: &[u8]) -> Option<Vec<u8>> {
    let mut told: Option<Vec<u8>> = None;
    // What the one takes out may have hidden something from the other.
    for _ in 0..MOST_TURNS {
        let now = told.as_deref().unwrap_or(text);
        let group = of_group(now);
        let next = of_json(group.as_deref().unwrap_or(now)).or(group);
        match next {
            Some(next) if next != now => told = Some(next),
            Some(next) => return told.or(Some(next)),
            None => return told,
        }
    }
    told
}

fn of_group(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(text, GROUP)?;
    let (mut out, mut is_inside, mut some) = (Vec::new(), false, false);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let bare = line.trim_ascii();
        if bare.starts_with(b"[") {
            is_inside = bare == GROUP;
        }
        match line.iter().position(|b| *b == b'=').filter(|_| is_inside) {
            Some(at) => {
                out.extend_from_slice(&line[..=at]);
                out.extend_from_slice(GONE);
                out.extend(line.ends_with(b"\n").then_some(b'\n'));
                some = true;
            }
            None => out.extend_from_slice(line),
        }
    }
    some.then_some(out)
}

fn of_json(json: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut kept = 0;
    let mut at = 0;
    // Brackets that are open since the one that began an environment.
    let mut depth = 0_usize;
    let mut is_key = false;
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = text_end(json, at + 1);
                let text = &json[at + 1..end];
                if depth > 0 {
                    if let Some(value) = text.iter().position(|b| *b == b'=').map(|n| at + n + 2) {
                        out.extend_from_slice(&json[kept..value]);
                        out.extend_from_slice(GONE);
                        kept = end;
                    }
                } else {
                    is_key = KEYS.iter().any(|key| text.eq_ignore_ascii_case(key));
                }
                at = end;
            }
            b'[' if is_key || depth > 0 => {
                depth += 1;
                is_key = false;
            }
            b']' if depth > 0 => depth -= 1,
            b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => is_key = false,
        }
        at += 1;
    }
    if kept == 0 {
        return None;
    }
    out.extend_from_slice(&json[kept..]);
    Some(out)
}

/// Overwrites the values of environment variables in bytes that hold JSON among others, each by as
/// many bytes: places in them stay what they were. Both the lists that [`environment`] knows, and the
/// CRI's (`envs`, objects of `key` and `value`).
pub fn blank_environment(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(quote) = memchr::memchr(b'"', &bytes[at..]).map(|n| at + n) {
        at = quote + 1;
        let Some((list, of_objects)) = list_after(&bytes[at..]) else { continue };
        at = blank_list(bytes, at + list, of_objects);
    }
}

/// Where the list begins, if these bytes go on with the name of an environment, and whether it is one
/// of objects.
fn list_after(bytes: &[u8]) -> Option<(usize, bool)> {
    let longest = KEYS.iter().map(|k| k.len()).max()?;
    let end = bytes.iter().take(longest + 1).position(|b| *b == b'"')?;
    let name = &bytes[..end];
    let of_objects = name.eq_ignore_ascii_case(OBJECTS);
    if !of_objects && !KEYS.iter().any(|key| name.eq_ignore_ascii_case(key)) {
        return None;
    }
    let skip =
        |from: usize| bytes[from..].iter().position(|b| !b.is_ascii_whitespace()).map(|n| from + n);
    let colon = skip(end + 1).filter(|at| bytes[*at] == b':')?;
    let list = skip(colon + 1).filter(|at| bytes[*at] == b'[')?;
    Some((list + 1, of_objects))
}

/// Blanks the values in a list that begins at `at`; where it ends.
fn blank_list(bytes: &mut [u8], mut at: usize, of_objects: bool) -> usize {
    let mut depth = 1_usize;
    let mut is_value = false;
    while at < bytes.len() && depth > 0 {
        match bytes[at] {
            b'"' => {
                let end = text_end(bytes, at + 1);
                let text = &bytes[at + 1..end];
                let secret = match of_objects {
                    true => is_value.then_some(at + 1),
                    false => text.iter().position(|b| *b == b'=').map(|n| at + n + 2),
                };
                is_value = of_objects && !is_value && text.eq_ignore_ascii_case(b"value");
                if let Some(from) = secret {
                    bytes[from..end].fill(b'x');
                }
                at = end;
            }
            b'[' => depth += 1,
            b']' => depth -= 1,
            b',' | b'}' => is_value = false,
            _ => {}
        }
        at += 1;
    }
    at.min(bytes.len())
}

/// Where the text ends whose first byte is at `from`: its closing quote, or the end of all.
fn text_end(json: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < json.len() && json[at] != b'"' {
        at += if json[at] == b'\\' { 2 } else { 1 };
    }
    at.min(json.len())
}

#[cfg(test)]
mod tests {
    use super::environment;

    fn redacted(json: &str) -> String {
        let out = environment(json.as_bytes()).unwrap_or_else(|| json.into());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_go_and_names_stay() {
        assert_eq!(
            redacted(r#"{"Config":{"Env":["A=secret","B=x=\"y\"", "C"],"Cmd":["a=b"]},"env": []}"#),
            r#"{"Config":{"Env":["A=redacted","B=redacted", "C"],"Cmd":["a=b"]},"env": []}"#
        );
        assert_eq!(
            redacted(r#"{"process":{"env" : [ "PASS=1" , ["D=2"], "E=3" ]}}"#),
            r#"{"process":{"env" : [ "PASS=redacted" , ["D=redacted"], "E=redacted" ]}}"#
        );
    }

    #[test]
    fn a_group_of_variables() {
        assert_eq!(
            redacted("[Context]\nshared=network;\n[Environment]\n PASS = a=b\nB=\"\n[X]\nc=d\n"),
            "[Context]\nshared=network;\n[Environment]\n PASS =redacted\nB=redacted\n[X]\nc=d\n"
        );
        assert_eq!(redacted("[Environment]\nPASS=secr"), "[Environment]\nPASS=redacted");
    }

    #[test]
    fn what_is_cut_short_keeps_none_either() {
        assert_eq!(redacted(r#"{"Env":["A=secr"#), r#"{"Env":["A=redacted"#);
        assert_eq!(redacted(r#"{"Env":["A=se\"#), r#"{"Env":["A=redacted"#);
    }

    #[test]
    fn other_texts_are_as_they_were() {
        for json in [
            r#"{"Env":"A=1"}"#,
            r#"{"Env":null,"x":["A=1"]}"#,
            r#"{"x":"Env","y":["A=1"]}"#,
            "",
            "Env[\"",
        ] {
            assert_eq!(redacted(json), json);
        }
    }
}
