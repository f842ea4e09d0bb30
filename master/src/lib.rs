//! forebay-master
