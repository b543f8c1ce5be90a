//! Cards, tables, JSON and CSV of `whose`, over any writer.
//!
//! Bytes become text here and nowhere before. Nothing is read and nothing is decided.

mod capture;
mod card;
mod card_binary;
mod card_layer;
mod card_pod;
mod card_stored;
mod containers;
mod csv;
mod doctor;
mod json;
mod json_file;
mod listing;
mod lists;
mod maps;
mod style;
mod table;
pub mod text;
mod tree;
mod usage;

pub use capture::{capture_document, file_json, gap_json};
pub use card::card;
pub use containers::{container_line, containers_document, gaps_line};
pub use csv::csv;
pub use doctor::{doctor, doctor_document};
pub use json::{
    Header, answer_document, answer_line, listing_header, listing_trailer, write_json, write_line,
};
pub use listing::{Listing, ListingFormat};
pub use lists::{GapCounts, Shown, summary};
pub use maps::{maps, maps_document, maps_lines};
pub use style::Style;
pub use table::{Table, TableOptions, table};
pub use tree::{Placed, TreeOptions, tree, tree_document, tree_line};
pub use usage::{usage_document, usage_line};
