//! How large a picture, a screen or a sheet may be.
//!
//! Chrome draws pictures up to 16 384 pixels high and wide; below this bound lies the whole of
//! a page in a window 3 000 pixels wide on a screen with two pixels a point. A larger one costs
//! the machine more memory than a session may have.

use serde_json::{Map, Value};

/// Most pixels of one picture.
pub(super) const PIXELS_MAX: f64 = 100e6;

/// What a side counts that is not given, in pixels.
const SIDE: f64 = 1000.0;

/// Pixels in an inch of paper (CSS).
const PER_INCH: f64 = 96.0;

type Object = Map<String, Value>;

/// A positive number among the members, or what counts instead.
fn number(members: &Object, name: &str, otherwise: f64) -> f64 {
    let given = members.get(name).and_then(Value::as_f64);
    given.filter(|number| *number > 0.0).unwrap_or(otherwise)
}

/// Whether what has this width, this height and this many pixels a point is small enough.
fn fits(members: &Object, per_point: f64) -> bool {
    let (width, height) = (number(members, "width", SIDE), number(members, "height", SIDE));
    width * height * per_point * per_point <= PIXELS_MAX
}

fn member_fits(members: &Object, name: &str) -> bool {
    let member = members.get(name).and_then(Value::as_object);
    member.is_none_or(|member| fits(member, number(member, "scale", 1.0)))
}

/// A window, a screen or what is seen of a page.
pub(super) fn area(arguments: &Object) -> bool {
    fits(arguments, number(arguments, "devicePixelRatio", 1.0))
}

/// `Browser.setWindowBounds`.
pub(super) fn window(arguments: &Object) -> bool {
    member_fits(arguments, "bounds")
}

/// `Emulation.setDeviceMetricsOverride`.
pub(super) fn metrics(arguments: &Object) -> bool {
    let per_point = number(arguments, "deviceScaleFactor", 1.0);
    let scale = number(arguments, "scale", 1.0);
    let screen = number(arguments, "screenWidth", SIDE) * number(arguments, "screenHeight", SIDE);
    fits(arguments, per_point * scale.max(1.0))
        && screen <= PIXELS_MAX
        && member_fits(arguments, "viewport")
}

/// `Page.captureScreenshot`.
pub(super) fn screenshot(arguments: &Object) -> bool {
    member_fits(arguments, "clip")
}

/// `Page.printToPDF`: one sheet.
pub(super) fn sheet(arguments: &Object) -> bool {
    let (width, height) =
        (number(arguments, "paperWidth", 8.5), number(arguments, "paperHeight", 11.0));
    width * height * PER_INCH * PER_INCH <= PIXELS_MAX
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_clients_ask_for_is_small_enough_and_what_hurts_is_not() {
        type Judge = fn(&Object) -> bool;
        let rows: [(Judge, Value, bool); 16] = [
            (area, json!({"width": 1920, "height": 1080}), true),
            (area, json!({"width": 100_000, "height": 100_000}), false),
            (area, json!({"width": 10_000_000}), false),
            (area, json!({"width": 4000, "height": 4000, "devicePixelRatio": 4}), false),
            (window, json!({"windowId": 1, "bounds": {"windowState": "minimized"}}), true),
            (window, json!({"bounds": {"width": 20_000, "height": 20_000}}), false),
            (
                metrics,
                json!({"width": 0, "height": 0, "deviceScaleFactor": 0, "mobile": false}),
                true,
            ),
            (metrics, json!({"width": 1280, "height": 16_384, "deviceScaleFactor": 2}), true),
            (metrics, json!({"width": 1280, "height": 720, "deviceScaleFactor": 50}), false),
            (metrics, json!({"width": 0, "height": 0, "deviceScaleFactor": 11}), false),
            (
                metrics,
                json!({"width": 9, "height": 9, "screenWidth": 1e6, "screenHeight": 1e6}),
                false,
            ),
            (screenshot, json!({"format": "png"}), true),
            (
                screenshot,
                json!({"clip": {"x": 0, "y": 0, "width": 1280, "height": 70_000, "scale": 1}}),
                true,
            ),
            (screenshot, json!({"clip": {"width": 1280, "height": 720, "scale": 30}}), false),
            (sheet, json!({"paperWidth": 8.27, "paperHeight": 200}), true),
            (sheet, json!({"paperWidth": 1e5, "paperHeight": 1e5}), false),
        ];
        for (judge, arguments, fits) in rows {
            assert_eq!(judge(arguments.as_object().unwrap()), fits, "{arguments}");
        }
    }
}
