//! `forebay fs`: one file per verb or pair of verbs.

mod cat;
mod free;
mod list;
mod load;
pub(crate) mod mounts;
mod progress;
mod stat;
mod walk;

use crate::arguments::FsVerb;
use crate::failure::Failure;
use forebay_client::Client;

/// Runs one verb.
pub(crate) async fn run(client: Client, verb: FsVerb) -> Result<(), Failure> {
    match verb {
        FsVerb::Mount(mount) => mounts::mount(&client, mount).await,
        FsVerb::Unmount { force, path } => mounts::unmount(&client, path, force).await,
        FsVerb::Mounts { json } => mounts::list(&client, json).await,
        FsVerb::Ls { recursive, human, json, path, help: _ } => {
            list::list(&client, &path, list::Style { recursive, human, json }).await
        }
        FsVerb::Stat { json, path } => stat::stat(&client, &path, json).await,
        FsVerb::Cat { paths } => cat::cat(&client, &paths).await,
        FsVerb::Load(load) => load::load(&client, load).await,
        FsVerb::Free { recursive, paths } => free::free(&client, &paths, recursive).await,
    }
}
