//! Days as bars: money where any was counted, otherwise tokens.

use std::fmt::Write;

use twobox_store::usage::{Day, Used};

use twobox_gateway::price::usd;

/// The size of the picture, and of the room for the bars in it, in pixels.
const SIZE: (f64, f64) = (900.0, 300.0);
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;

/// How many dates stand below the bars at most.
const DATES: usize = 8;

/// The picture as SVG. Dates and numbers are all that is in it.
pub(super) fn draw(days: &[(Day, Used)]) -> String {
    let money = days.iter().any(|(_, used)| used.nano_usd > 0);
    #[expect(clippy::cast_precision_loss, reason = "a height in pixels")]
    let value = |used: &Used| match money {
        true => used.nano_usd as f64,
        false => (used.read() + used.tokens.output) as f64,
    };
    let most = days.iter().map(|(_, used)| value(used)).fold(0.0, f64::max);
    let (width, height) = (SIZE.0 - LEFT - RIGHT, SIZE.1 - TOP - BOTTOM);
    #[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
    let step = width / days.len().max(1) as f64;
    let mut svg = String::new();
    let mut put = |line: String| svg.push_str(&format!("{line}\n"));
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>",
        SIZE.0, SIZE.1
    ));
    let title = if money { "USD a day" } else { "tokens a day" };
    put(format!("<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{title}</text>"));
    let foot = TOP + height;
    put(format!(
        "<path d=\"M{LEFT} {TOP}V{foot}H{}\" fill=\"none\" stroke=\"black\"/>",
        SIZE.0 - RIGHT
    ));
    if most > 0.0 {
        let best = days.iter().map(|(_, used)| used).find(|used| value(used) >= most);
        let label = best.map_or_else(String::new, |used| match money {
            true => usd(used.nano_usd),
            false => (used.read() + used.tokens.output).to_string(),
        });
        put(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            TOP + 5.0
        ));
    }
    let every = days.len().div_ceil(DATES).max(1);
    for (at, (day, used)) in days.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
        let x = LEFT + step * at as f64;
        let tall = if most > 0.0 { height * value(used) / most } else { 0.0 };
        if tall > 0.0 {
            put(format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"#214c8c\">\
                 <title>{day}</title></rect>",
                x + step * 0.1,
                foot - tall,
                step * 0.8
            ));
        }
        if at % every == 0 {
            put(format!("<text x=\"{:.1}\" y=\"{}\">{day}</text>", x + step * 0.1, foot + 20.0));
        }
    }
    svg.write_str("</svg>\n").expect("a string takes every text");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_store::usage::Tokens;

    fn day(number: u32, input: u64, nano_usd: i64) -> (Day, Used) {
        let day = Day::parse(&format!("2026-11-{number:02}")).unwrap();
        let tokens = Tokens { input, ..Tokens::default() };
        (day, Used { requests: 1, tokens, nano_usd, ..Used::default() })
    }

    #[test]
    fn each_day_with_use_is_a_bar_as_high_as_its_share() {
        let money = draw(&[day(1, 5, 500_000_000), day(2, 5, 0), day(3, 5, 1_000_000_000)]);
        assert!(money.contains("USD a day") && money.contains(">1.0000<"), "{money}");
        let heights: Vec<&str> = money.lines().filter(|line| line.contains("#214c8c")).collect();
        assert_eq!(heights.len(), 2, "{money}");
        assert!(heights[0].contains("height=\"110.0\"") && heights[1].contains("height=\"220.0\""));
        let tokens = draw(&[day(1, 5, 0), day(2, 10, 0)]);
        assert!(tokens.contains("tokens a day") && tokens.contains(">10<"), "{tokens}");
        let empty = draw(&[]);
        assert!(empty.starts_with("<svg") && empty.ends_with("</svg>\n"), "{empty}");
    }
}
