//! The cookies that a browser keeps its tokens in. No script can read them; a change that one
//! of them vouches for must come from a page of this server (`people::access::check_origin`).

use axum::response::AppendHeaders;
use cookie::{Cookie, SameSite, time::Duration};
use http::{HeaderMap, HeaderName, header};

use super::{ACCESS_US, REFRESH_US};

const ACCESS: &str = "ventus_access";
const REFRESH: &str = "ventus_refresh";
/// Where the refresh token is sent to, by either name of the routes: nowhere else.
const REFRESH_PATHS: [&str; 2] = ["/v1/dashboard/auth", "/api/v1/dashboard/auth"];

/// `Set-Cookie` headers.
pub type SetCookies = AppendHeaders<[(HeaderName, String); 3]>;

/// The access token of a request.
pub fn access(headers: &HeaderMap) -> Option<String> {
    named(headers, ACCESS)
}

/// The refresh token of a request.
pub fn refresh(headers: &HeaderMap) -> Option<String> {
    named(headers, REFRESH)
}

fn named(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = all.flat_map(Cookie::split_parse).flatten();
    cookies.find(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned())
}

/// Keeps both tokens for as long as they are good.
pub fn set(public_url: &str, access: &str, refresh: &str) -> SetCookies {
    cookies(public_url, access, ACCESS_US / 1_000_000, refresh, REFRESH_US / 1_000_000)
}

/// Forgets both.
pub fn clear(public_url: &str) -> SetCookies {
    cookies(public_url, "", 0, "", 0)
}

fn cookies(
    public_url: &str,
    access: &str,
    access_seconds: i64,
    refresh: &str,
    refresh_seconds: i64,
) -> SetCookies {
    let secure = public_url.starts_with("https://");
    let cookie = |name, value: &str, path: &'static str, seconds| {
        let cookie = Cookie::build((name, value.to_owned()))
            .path(path)
            .max_age(Duration::seconds(seconds))
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(secure);
        (header::SET_COOKIE, cookie.build().to_string())
    };
    let [first, second] = REFRESH_PATHS;
    AppendHeaders([
        cookie(ACCESS, access, "/", access_seconds),
        cookie(REFRESH, refresh, first, refresh_seconds),
        cookie(REFRESH, refresh, second, refresh_seconds),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_for_this_server_and_no_script() {
        let AppendHeaders(headers) = set("https://v.example", "vd_a", "vr_b");
        let texts = headers.map(|(_, text)| text);
        assert_eq!(
            texts[0],
            "ventus_access=vd_a; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=3600"
        );
        assert_eq!(
            texts[1],
            "ventus_refresh=vr_b; HttpOnly; SameSite=Lax; Secure; Path=/v1/dashboard/auth; Max-Age=2592000"
        );
        assert!(texts[2].contains("Path=/api/v1/dashboard/auth;"));
        let AppendHeaders(headers) = clear("http://127.0.0.1:8080");
        for (_, text) in headers {
            assert!(text.contains("Max-Age=0") && !text.contains("Secure"), "{text}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; ventus_access=vd_x".parse().unwrap());
        headers.append(header::COOKIE, "ventus_refresh=vr_y; c=d".parse().unwrap());
        assert_eq!(access(&headers).as_deref(), Some("vd_x"));
        assert_eq!(refresh(&headers).as_deref(), Some("vr_y"));
        assert_eq!(access(&HeaderMap::new()), None);
    }
}
