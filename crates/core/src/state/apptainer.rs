//! What Apptainer writes down of a named instance: `<name>/<name>.json` (apptainer
//! internal/pkg/instance/instance_linux.go).

use bstr::BString;
use serde::Deserialize;

use super::json;

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: BString,
    /// The image that it was started from.
    pub image: Option<BString>,
    /// Its first process.
    pub pid: Option<u32>,
    /// Where its standard output goes.
    pub log: Option<BString>,
}

/// Parses such a file.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Instance, String> {
    #[derive(Deserialize)]
    struct File {
        name: String,
        #[serde(default)]
        image: String,
        #[serde(default)]
        pid: i64,
        #[serde(rename = "logOutPath", default)]
        log: String,
    }
    let file: File = json::parse(bytes)?;
    let text = |text: String| Some(BString::from(text)).filter(|text| !text.is_empty());
    Ok(Instance {
        name: file.name.into(),
        image: text(file.image),
        pid: u32::try_from(file.pid).ok().filter(|pid| *pid > 0),
        log: text(file.log).filter(|path| path.starts_with(b"/")),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_instance() {
        let text = br#"{"pid":4321,"ppid":4320,"name":"db","user":"alice","image":"/home/alice/db.sif",
            "userns":true,"cgroup":false,"ip":"","logErrPath":"/home/alice/e","logOutPath":"/home/alice/o"}"#;
        let told = parse(text).unwrap();
        assert_eq!((told.name, told.pid), ("db".into(), Some(4321)));
        assert_eq!(
            (told.image.unwrap(), told.log.unwrap()),
            ("/home/alice/db.sif".into(), "/home/alice/o".into())
        );
        let bare = parse(br#"{"name":"db","pid":-1,"logOutPath":"o"}"#).unwrap();
        assert_eq!((bare.pid, bare.image, bare.log), (None, None, None));
        assert!(parse(br#"{"pid":1}"#).is_err());
        assert!(parse(b"").is_err());
    }
}
