//! `fs test`: a question about a path, answered by the exit code alone.

use super::paths::absolute;
use crate::arguments::Test;
use crate::failure::{FAILED, Failure};
use crate::output::printable;
use forebay_base::{ErrorKind, FileId};
use forebay_client::Client;
use forebay_client::message::namespace::KIND_DIRECTORY;

const WHAT: &str = "fs test";

/// Ends well for yes, silently with 1 for no.
pub(crate) async fn test(client: &Client, arguments: Test) -> Result<(), Failure> {
    let path = absolute(WHAT, &arguments.path)?;
    let attr = match client.resolve(path).await {
        Ok(attr) => attr,
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Failure::silent(FAILED));
        }
        Err(error) => return Err(Failure::of(WHAT, &printable(path), &error)),
    };
    let is_directory = attr.kind == KIND_DIRECTORY;
    let yes = if arguments.directory {
        is_directory
    } else if arguments.file {
        !is_directory
    } else if arguments.empty {
        !is_directory && attr.size == 0
    } else if arguments.filled && is_directory {
        let page = client.read_dir(FileId(attr.file_id), b"", 1).await;
        !page.map_err(|error| Failure::of(WHAT, &printable(path), &error))?.entries.is_empty()
    } else if arguments.filled {
        attr.size > 0
    } else {
        arguments.exists
    };
    if yes { Ok(()) } else { Err(Failure::silent(FAILED)) }
}
