//! Draws the comparison as an SVG.

use std::{collections::BTreeMap, fmt::Write};

use crate::{candidate::CALL, report::Row};

const LABELS: f64 = 190.0;
const BARS: f64 = 470.0;
const ROW: f64 = 24.0;

/// The value of a bar, or `None` if it was not measured.
type Value = fn(&Row) -> Option<f64>;

/// Three groups of bars on a logarithmic scale, with colours for light and dark mode.
pub fn draw(rows: &BTreeMap<&'static str, Row>, order: &[&'static str], footer: &str) -> String {
    let groups: [(&str, Value); 3] = [
        ("CPU of a cold start and its first mint, ms", |row| Some(row.cold_cpu_ms)),
        ("CPU of each further mint, ms", |row| Some(row.mint_cpu_ms)),
        ("First mint at 128 MB, ms of waiting in addition to OpenAI's time", |row| row.first_ms_at_128),
    ];
    let mut body = String::new();
    let mut y = 8.0;
    for (title, value_of) in groups {
        y += 22.0;
        let _ = writeln!(body, r#"<text class="title" x="0" y="{y}">{title}</text>"#);
        y += 10.0;
        let values: Vec<_> = order.iter().filter_map(|name| Some((*name, value_of(rows.get(name)?)?))).collect();
        let least = values.iter().map(|(_, value)| *value).fold(f64::MAX, f64::min).max(1e-3) / 2.0;
        let most = values.iter().map(|(_, value)| *value).fold(least * 10.0, f64::max);
        for (name, value) in values {
            let width = (value.max(least) / least).ln() / (most / least).ln() * BARS;
            let ours = if name.starts_with("mint") || name == CALL { "ours" } else { "other" };
            let text = y + 16.0;
            let _ = writeln!(body, r#"<text x="{:.0}" y="{text:.0}" text-anchor="end">{name}</text>"#, LABELS - 8.0);
            let _ = writeln!(
                body,
                r#"<rect class="{ours}" x="{LABELS}" y="{:.0}" width="{width:.1}" height="16" rx="3"/>"#,
                y + 4.0
            );
            let _ = writeln!(body, r#"<text x="{:.0}" y="{text:.0}">{value:.2}</text>"#, LABELS + width + 6.0);
            y += ROW;
        }
    }
    y += 26.0;
    let _ = writeln!(body, r#"<text class="footer" x="0" y="{y:.0}">{footer}</text>"#);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {height:.0}" width="740" height="{height:.0}" role="img" aria-label="CPU and waiting time of the mint compared with other implementations, on a logarithmic scale">
<style>
text {{ font: 13px system-ui, sans-serif; fill: #59636e; }}
.title {{ font-weight: 600; fill: #1c2126; }}
.footer {{ font-size: 11px; }}
.ours {{ fill: #0b6b53; }}
.other {{ fill: #b3bcc6; }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #a2abb5; }} .title {{ fill: #e8eaed; }} .ours {{ fill: #3fc79a; }} .other {{ fill: #56606b; }}
}}
</style>
{body}</svg>
"#,
        height = y + 10.0
    )
}
