//! Keys and log lines for the tests.

/// Returns the key of an ALB access log object that ends in `random`.
pub(crate) fn alb_key(random: &str) -> String {
    format!(
        "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/\
         123456789012_elasticloadbalancing_eu-west-1_app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_{random}.log.gz"
    )
}

/// Returns an ALB line that differs from the lines of other numbers.
pub(crate) fn alb_line(number: usize) -> String {
    format!(
        "https 2026-03-02T10:15:{:02}.{:06}Z app/web/50dc6c495c0c9188 198.51.100.{}:{} 10.0.3.17:8080 0.000 0.012 0.000 200 200 \
         812 15342 \"GET https://shop.example:443/cart?id={number} HTTP/2.0\" \"Mozilla/5.0 (X11; Linux x86_64)\" \
         TLS_AES_128_GCM_SHA256 TLSv1.3 arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/a4c1be02977d5e63 \
         \"Root=1-69a56328-{number:024x}\" \"shop.example\" \"session-reused\" 10 2026-03-02T10:15:00.000000Z \"forward\" \"-\" \"-\" \
         \"10.0.3.17:8080\" \"200\" \"-\" \"-\" TID_{number:032x} \"-\" \"-\" \"-\" 203.0.113.7 \"-\" \"-\"",
        number / 1_000_000 % 60,
        number % 1_000_000,
        number % 250,
        1_024 + number % 60_000,
    )
}
