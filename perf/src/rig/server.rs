//! The S3 server itself: what every cache stands on, read with no cache between.

use super::Rig;
use anyhow::Result;
use forebay_tests::{ACCESS_KEY, S3Server, SECRET_KEY};
use forebay_ufs::{StoreLimits, UnderStore};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Server {
    store: Arc<dyn UnderStore>,
    pid: u32,
}

impl Server {
    pub(crate) fn new(server: &S3Server, bucket: &str, runtime: &tokio::runtime::Runtime) -> Result<Self> {
        let options: Vec<(String, String)> = [
            ("endpoint", server.endpoint()),
            ("region", "us-east-1".into()),
            ("path_style", "true".into()),
            ("access_key", ACCESS_KEY.into()),
            ("secret_key", SECRET_KEY.into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect();
        let limits = StoreLimits { concurrency: 32, deadline: Duration::from_secs(30), retries: 0 };
        let _inside = runtime.enter();
        Ok(Self { store: forebay_ufs::open(&format!("s3://{bucket}"), &options, limits)?, pid: server.pid() })
    }
}

impl Rig for Server {
    fn name(&self) -> &str {
        "s3"
    }

    fn version(&self) -> String {
        "versitygw 1.8.0 over a directory, read with Forebay's own S3 client (GET with If-Match)".into()
    }

    fn commands(&self) -> Vec<String> {
        vec!["versitygw --quiet --port 127.0.0.1:PORT posix DIR".into()]
    }

    fn processes(&self) -> Vec<(String, u32)> {
        vec![("versitygw".into(), self.pid)]
    }

    fn store(&self) -> Option<Arc<dyn UnderStore>> {
        Some(Arc::clone(&self.store))
    }

    fn empty(&mut self) -> Result<()> {
        Ok(())
    }
}
