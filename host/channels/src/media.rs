//! What a file is, by its name alone: nobody looks into it.

/// The media type of a file with this name. What a browser would run is only bytes.
pub(crate) fn media_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "mp3" => "audio/mpeg",
        "ogg" | "oga" => "audio/ogg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "pdf" => "application/pdf",
        "txt" | "md" | "csv" | "log" => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_name_says_and_nothing_that_runs() {
        assert_eq!(media_type("a.PNG"), "image/png");
        for other in ["a.svg", "a.html", "a", ".", "png"] {
            assert_eq!(media_type(other), "application/octet-stream", "{other}");
        }
    }
}
