//! Bars as PNG: for each job a group of bars, one a rig, each as long as its median beside the longest of the group, with
//! a line from least to most. Text is a bitmap font of a crate: no font file, no plotting library.

use crate::results::{Series, Unit};
use anyhow::{Context, Result};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use std::path::Path;

const WIDTH: usize = 1100;
const MARGIN: usize = 16;
const BAR_HEIGHT: usize = 18;
const BAR_GAP: usize = 4;
const GROUP_GAP: usize = 14;
const TEXT_HEIGHT: usize = 20;
const RIG_WIDTH: usize = 120;
const BAR_MAX: usize = 560;

type Color = [u8; 3];

const INK: Color = [40, 40, 48];
const FAINT: Color = [110, 110, 120];

/// Colours that differ in lightness as well as in hue.
fn color(rig: &str) -> Color {
    match rig {
        "forebay" | "head" => [0, 98, 177],
        "ext4" | "loopback TCP" | "base" => [150, 150, 156],
        "rclone" => [112, 173, 71],
        "s3fs" => [226, 170, 40],
        "alluxio" => [192, 80, 60],
        _ => [130, 90, 160],
    }
}

struct Canvas {
    pixels: Vec<u8>,
    height: usize,
}

impl Canvas {
    fn new(height: usize) -> Self {
        Self { pixels: vec![255; WIDTH * height * 3], height }
    }

    fn put(&mut self, x: usize, y: usize, color: Color, share: u8) {
        if x >= WIDTH || y >= self.height {
            return;
        }
        let at = (y * WIDTH + x) * 3;
        for (pixel, wanted) in self.pixels[at..at + 3].iter_mut().zip(color) {
            let mixed = u32::from(*pixel) * u32::from(255 - share) + u32::from(wanted) * u32::from(share);
            *pixel = (mixed / 255) as u8;
        }
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, color: Color) {
        for row in y..y + height {
            for column in x..x + width {
                self.put(column, row, color, 255);
            }
        }
    }

    /// Writes a line of text; gives the column behind it.
    fn text(&mut self, x: usize, y: usize, text: &str, weight: FontWeight, color: Color) -> usize {
        let advance = get_raster_width(weight, RasterHeight::Size16);
        let mut left = x;
        for letter in text.chars() {
            let glyph = get_raster(letter, weight, RasterHeight::Size16)
                .or_else(|| get_raster('?', weight, RasterHeight::Size16));
            if let Some(glyph) = glyph {
                for (row, line) in glyph.raster().iter().enumerate() {
                    for (column, share) in line.iter().enumerate() {
                        self.put(left + column, y + row, color, *share);
                    }
                }
            }
            left += advance;
        }
        left
    }

    fn save(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), WIDTH as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.pixels)?;
        Ok(())
    }
}

/// A figure with as many digits as it deserves and commas.
pub(crate) fn shown(value: f64) -> String {
    let text = match value.abs() {
        size if size < 1.0 => return format!("{value:.2}"),
        size if size < 100.0 => return format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    let mut out = String::new();
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && (text.len() - index).is_multiple_of(3) && digit != '-' {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// One group of bars.
pub(crate) struct Group<'a> {
    pub(crate) title: String,
    pub(crate) series: Vec<&'a Series>,
}

/// Draws groups below each other.
pub(crate) fn draw(title: &str, groups: &[Group<'_>], path: &Path) -> Result<()> {
    let bars: usize = groups.iter().map(|group| group.series.len()).sum();
    let height =
        2 * MARGIN + 2 * TEXT_HEIGHT + groups.len() * (TEXT_HEIGHT + GROUP_GAP) + bars * (BAR_HEIGHT + BAR_GAP);
    let mut canvas = Canvas::new(height);
    canvas.text(MARGIN, MARGIN, title, FontWeight::Regular, INK);
    canvas.fill(MARGIN, MARGIN + TEXT_HEIGHT, WIDTH - 2 * MARGIN, 1, INK);
    let mut y = MARGIN + 2 * TEXT_HEIGHT - 6;
    for group in groups {
        let unit = group.series.first().map_or(Unit::PerSecond, |series| series.unit);
        let better = if unit == Unit::Milliseconds { "less is better" } else { "more is better" };
        let heading = format!("{}  [{}, {better}]", group.title, unit.shown());
        canvas.text(MARGIN, y, &heading, FontWeight::Regular, FAINT);
        y += TEXT_HEIGHT;
        let spreads: Vec<_> = group.series.iter().filter_map(|series| Some((*series, series.spread()?))).collect();
        let most = spreads.iter().map(|(_, spread)| spread.max).fold(f64::MIN_POSITIVE, f64::max);
        let columns = |value: f64| ((value / most) * BAR_MAX as f64).round() as usize;
        for (series, spread) in spreads {
            canvas.text(MARGIN, y + 1, &series.rig, FontWeight::Regular, INK);
            let left = MARGIN + RIG_WIDTH;
            canvas.fill(left, y, columns(spread.median).max(1), BAR_HEIGHT, color(&series.rig));
            let (from, to) = (left + columns(spread.min), left + columns(spread.max));
            canvas.fill(from, y + BAR_HEIGHT / 2, (to - from).max(1), 2, INK);
            for end in [from, to] {
                canvas.fill(end, y + BAR_HEIGHT / 2 - 3, 2, 8, INK);
            }
            let label = format!("{}  ({} to {})", shown(spread.median), shown(spread.min), shown(spread.max));
            canvas.text(to.max(left + columns(spread.median)) + 10, y + 1, &label, FontWeight::Regular, INK);
            y += BAR_HEIGHT + BAR_GAP;
        }
        y += GROUP_GAP;
    }
    canvas.save(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Sample;

    #[test]
    fn figures_for_people() {
        assert_eq!(shown(1_234_567.4), "1,234,567");
        assert_eq!(shown(123.0), "123");
        assert_eq!(shown(12.34), "12.3");
        assert_eq!(shown(0.123), "0.12");
    }

    #[test]
    fn a_chart_is_a_png_with_the_bars_in_it() {
        let sample = |operations| Sample { seconds: 1.0, operations, ..Sample::default() };
        let series = |rig: &str, operations: &[u64]| Series {
            job: "j".into(),
            rig: rig.into(),
            unit: Unit::PerSecond,
            group: "g".into(),
            samples: operations.iter().map(|count| sample(*count)).collect(),
        };
        let (forebay, peer) = (series("forebay", &[900, 1000, 1100]), series("rclone", &[10]));
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("chart.png");
        draw("title", &[Group { title: "j".into(), series: vec![&forebay, &peer] }], &path).expect("drawn");
        let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).expect("there")));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
        reader.next_frame(&mut pixels).expect("a frame");
        let blue = pixels.as_chunks::<3>().0.iter().filter(|pixel| **pixel == color("forebay")).count();
        assert!(blue > 400 * 12, "{blue}");
    }
}
