//! The files of the console: one page for all paths, its style, its scripts and its sign. Nothing is fetched elsewhere.

use forebay_net::http::HttpResponse;

/// Paths that the page shows; the script reads which one it is.
const PAGES: [&str; 6] = ["/", "/browse", "/workers", "/mounts", "/jobs", "/config"];

const HTML: &str = include_str!("page/console.html");
const STYLE: &str = include_str!("page/console.css");
const SCRIPT: &str = include_str!("page/console.js");
const CHARTS: &str = include_str!("page/charts.js");
const JOBS: &str = include_str!("page/jobs.js");
const SIGN: &str = include_str!("page/icon.svg");

/// The page or file of that path.
pub(crate) fn page(path: &str) -> Option<HttpResponse> {
    let (content_type, text) = match path {
        "/console.css" => ("text/css; charset=utf-8", STYLE),
        "/console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "/charts.js" => ("text/javascript; charset=utf-8", CHARTS),
        "/jobs.js" => ("text/javascript; charset=utf-8", JOBS),
        "/icon.svg" => ("image/svg+xml", SIGN),
        _ if PAGES.contains(&path) => ("text/html; charset=utf-8", HTML),
        _ => return None,
    };
    Some(HttpResponse::new(200, content_type, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_whole_and_name_no_other_host() {
        for path in PAGES.iter().chain(&["/console.css", "/console.js", "/charts.js", "/jobs.js", "/icon.svg"]) {
            assert!(page(path).is_some_and(|page| page.status == 200 && page.body.len() > 100), "{path}");
        }
        assert!(page("/browse/").is_none() && page("/etc/passwd").is_none());
        for text in [HTML, STYLE, SCRIPT, CHARTS, JOBS, SIGN] {
            assert!(text.is_ascii());
            // The name of a namespace is no address that is fetched.
            let addresses = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!addresses.contains("http:") && !addresses.contains("https:") && !addresses.contains("//cdn"));
            assert!(!text.contains("innerHTML") && !text.contains("insertAdjacentHTML"), "text is never markup");
        }
    }
}
