//! Ways to cut an input into chunks.

/// `data` in chunks: each byte alone, halves, and lengths that follow from the data itself.
pub fn cuts(data: &[u8]) -> [Vec<&[u8]>; 3] {
    let (head, tail) = data.split_at(data.len() / 2);
    let mut uneven = Vec::new();
    let mut rest = data;
    while let Some(&byte) = rest.first() {
        let (chunk, after) = rest.split_at(usize::from(byte % 13 + 1).min(rest.len()));
        uneven.push(chunk);
        rest = after;
    }
    [data.chunks(1).collect(), vec![head, tail], uneven]
}
