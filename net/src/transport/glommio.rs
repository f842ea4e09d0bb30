//! The glommio transport: the server that each of a worker's cores runs. Everything here stays on its executor.
