//! Building images, with either builder.

use super::{CALL, Docker, client};
use crate::call::output;

/// Which builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    /// The older one: every step is an image.
    Classic,
    /// BuildKit, inside dockerd.
    BuildKit,
}

impl Docker {
    /// `docker build` of a Dockerfile without a context, steps without a network.
    ///
    /// # Errors
    /// What the client said, when it fails.
    pub fn build(&self, builder: Builder, dockerfile: &str, tag: &str) -> Result<(), String> {
        let context = self.dir().join("context");
        std::fs::create_dir_all(&context).map_err(|e| format!("context: {e}"))?;
        std::fs::write(context.join("Dockerfile"), dockerfile).map_err(|e| format!("{e}"))?;
        let mut command = client(&self.client, &self.socket());
        command
            .env("DOCKER_CONFIG", self.dir().join("client"))
            .env("DOCKER_BUILDKIT", if builder == Builder::BuildKit { "1" } else { "0" })
            .args(["build", "--network", "none", "-q", "-t", tag])
            .arg(&context);
        let out = output(&mut command, CALL)?;
        if out.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}
