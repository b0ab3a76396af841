//! `multipart/form-data`, read as bytes: the fields of a form, and the parameters of a header.

/// One field of a form, with its content as it was sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// The named fields between the delimiters of `boundary` (RFC 2046, 5.1.1). A part that no delimiter ends is left out.
pub(crate) fn fields(body: &[u8], boundary: &str) -> Vec<Field> {
    // The first delimiter may be the start of the body; all others follow a line end.
    let body = [b"\r\n", body].concat();
    let delimiter = format!("\r\n--{boundary}");
    let mut fields = Vec::new();
    let mut begun = None;
    let mut rest = body.as_slice();
    while let Some((content, after, is_last)) = next_delimiter(rest, delimiter.as_bytes()) {
        fields.extend(begun.and_then(|()| read_field(content)));
        if is_last {
            break;
        }
        begun = Some(());
        rest = after;
    }
    fields
}

/// The bytes before the next delimiter, those from its line end on, and whether it is the last one.
fn next_delimiter<'a>(text: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8], bool)> {
    let mut from = 0_usize;
    loop {
        let at = from.checked_add(find(text.get(from..)?, delimiter)?)?;
        let (before, after) = (text.get(..at)?, text.get(at..)?.strip_prefix(delimiter)?);
        let (line, is_last) = after.strip_prefix(b"--").map_or((after, false), |line| (line, true));
        // Spaces may follow on the same line. Any other text is a longer boundary.
        let line_end = line.trim_ascii_start().len();
        let padding = line.get(..line.len().checked_sub(line_end)?)?;
        if padding.contains(&b'\n') || (is_last && line_end == 0) {
            let line_end = line.iter().position(|byte| *byte == b'\r').unwrap_or(line.len());
            return Some((before, line.get(line_end..)?, is_last));
        }
        from = at.checked_add(1)?;
    }
}

/// The field of a part that begins with the line end of its delimiter; `None` without a name.
fn read_field(part: &[u8]) -> Option<Field> {
    let head_end = find(part, b"\r\n\r\n")?;
    let content = part.get(head_end..)?.strip_prefix(b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(part.get(..head_end)?);
    let disposition = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.trim().eq_ignore_ascii_case("content-disposition").then_some(value))?;
    Some(Field { name: parameter(disposition, "name")?, content: content.to_vec() })
}

fn find(text: &[u8], searched: &[u8]) -> Option<usize> {
    text.windows(searched.len()).position(|window| window == searched)
}

/// The value of a header's parameter, without its quotation marks. Names ignore case.
pub(crate) fn parameter(header: &str, wanted: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, next) = read_value(after.trim_start());
        // A parameter without a value may stand before this one.
        if name.rsplit(';').next()?.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next;
    }
}

/// A token or a quoted string (RFC 9110, 5.6), and the text after its semicolon.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim_end().to_owned(), rest);
    };
    let (mut value, mut letters) = (String::new(), quoted.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => value.extend(letters.next()),
            letter => value.push(letter),
        }
    }
    let rest = letters.as_str();
    (value, rest.split_once(';').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, boundary: &str) -> Vec<(String, String)> {
        let text = |field: Field| (field.name, String::from_utf8(field.content).unwrap());
        fields(body.as_bytes(), boundary).into_iter().map(text).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn fields_keep_every_byte_between_their_delimiters() {
        let form = "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\n\
                    v=0\r\n--bc\r\n a --b\r\n\r\n--b  \r\nCONTENT-DISPOSITION:form-data;name=session\r\n\r\n{}\r\n--b--\r\n";
        assert_eq!(read(form, "b"), pairs(&[("sdp", "v=0\r\n--bc\r\n a --b\r\n"), ("session", "{}")]));
        let with_preamble = format!("preamble\r\n{}", form.trim_end());
        assert_eq!(read(&with_preamble, "b"), read(form, "b"));
        let bytes = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\x00\n\r\n--b--";
        assert_eq!(fields(bytes, "b"), [Field { name: "a".into(), content: b"\xff\x00\n".to_vec() }]);
    }

    #[test]
    fn parts_without_a_name_or_an_end_are_left_out() {
        for form in [
            "",
            "--b",
            "--b--",
            "--b\r\n\r\n--b--\r\n",
            "--b\r\n\r\ncontent\r\n--b--",
            "--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--",
            "--b\r\nX-Content-Disposition: form-data; name=a\r\n\r\n1\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n",
            "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--bb--\r\n",
            "--b--\r\n--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--",
        ] {
            assert_eq!(read(form, "b"), [], "{form:?}");
        }
    }

    #[test]
    fn parameters_may_be_quoted_and_contain_separators() {
        for (header, value) in [
            ("form-data; name=sdp", "sdp"),
            ("form-data;NAME = \"sdp\" ; filename=a", "sdp"),
            ("form-data; filename=\"a;name=b: c\"; name=\"s;d:p\"", "s;d:p"),
            ("form-data; filename=\"a\\\";name=b\"; name=\"s\\\"p\"", "s\"p"),
            ("form-data; flag; name=sdp", "sdp"),
            ("form-data; filename=name; name=\"\"", ""),
        ] {
            assert_eq!(parameter(header, "name").as_deref(), Some(value), "{header}");
        }
        for header in ["name=sdp", "form-data", "form-data; filename=a", "form-data; name"] {
            assert_eq!(parameter(header, "name"), None, "{header}");
        }
    }
}
