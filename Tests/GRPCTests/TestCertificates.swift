/// Certificates for tests on the loopback, good until 2120. The keys are no secret and protect nothing.
enum TestCertificates {
    /// Has signed the other two.
    static let authority = """
        -----BEGIN CERTIFICATE-----
        MIIBnTCCAUOgAwIBAgIUSzrUyABgOEnrVNnEP4dEqc4i1pgwCgYIKoZIzj0EAwIw
        IzEhMB8GA1UEAwwYU2lnbmFsYm94IHRlc3QgYXV0aG9yaXR5MCAXDTIwMDEwMTAw
        MDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAjMSEwHwYDVQQDDBhTaWduYWxib3ggdGVz
        dCBhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQOfWdmlZKlYTUb
        h84TbhICbZJ0ZGtAhSKPfUoNsieasWHQDJLVtc5NgMcnYmeXXNfG2E9ysYFYjpMk
        AG/cjuZ+o1MwUTAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBR7t3eUJOQrd2YQ
        J0dcNtpLpS+flTAfBgNVHSMEGDAWgBR7t3eUJOQrd2YQJ0dcNtpLpS+flTAKBggq
        hkjOPQQDAgNIADBFAiEA8LaY1xNuInPVJAYCcBuqGN2vgTic/y83mMmNNFrXfqQC
        IEP3GgFNhHDIgGTYyLxf1KjKtOzUSQfhIPPZ4lPsHR7l
        -----END CERTIFICATE-----
        """

    /// For "localhost" alone.
    static let server = """
        -----BEGIN CERTIFICATE-----
        MIIBoTCCAUegAwIBAgIUEJDRTDpk/RITy/mJVyI87Av1uqcwCgYIKoZIzj0EAwIw
        IzEhMB8GA1UEAwwYU2lnbmFsYm94IHRlc3QgYXV0aG9yaXR5MCAXDTIwMDEwMTAw
        MDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTAT
        BgcqhkjOPQIBBggqhkjOPQMBBwNCAARUIBxig5AV5B1syDcx8oCy80wVi3tUZyiU
        fAUafSE0d0irmrxWmeqiKLsWBQewezD0h5gm5xakOsNaftmSi4xWo2YwZDAMBgNV
        HRMBAf8EAjAAMB0GA1UdDgQWBBQauYK1T/FYmdrVTBRaEOvzfveVhjAfBgNVHSME
        GDAWgBR7t3eUJOQrd2YQJ0dcNtpLpS+flTAUBgNVHREEDTALgglsb2NhbGhvc3Qw
        CgYIKoZIzj0EAwIDSAAwRQIhAJZH9Fm/onKNv3uIRn4qBzIghu7DxskpQVxeUzT0
        Z9tlAiBMKpyzXx2pcD/d8UKg/yBOTie5wuj/qZecOXZZzfxMWw==
        -----END CERTIFICATE-----
        """

    /// Of `server`.
    static let serverKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgoqLy6n1/tFQ+jGCc
        AKp/BNghC4X86dvUgFk3e0pnzXChRANCAARUIBxig5AV5B1syDcx8oCy80wVi3tU
        ZyiUfAUafSE0d0irmrxWmeqiKLsWBQewezD0h5gm5xakOsNaftmSi4xW
        -----END PRIVATE KEY-----
        """

    /// A client's own.
    static let client = """
        -----BEGIN CERTIFICATE-----
        MIIBiDCCAS6gAwIBAgIUSOkjTt7C4GwGbdUj09rArc34XUYwCgYIKoZIzj0EAwIw
        IzEhMB8GA1UEAwwYU2lnbmFsYm94IHRlc3QgYXV0aG9yaXR5MCAXDTIwMDEwMTAw
        MDAwMFoYDzIxMjAwMTAxMDAwMDAwWjARMQ8wDQYDVQQDDAZjbGllbnQwWTATBgcq
        hkjOPQIBBggqhkjOPQMBBwNCAASpuwi6WiDKvf4eF5JQqLWCj/wAWPixfXDHmA++
        nYuKTmqE0Nz+WQFcBMj53jV46okkzqmytD03b6jlW+hORv/do1AwTjAMBgNVHRMB
        Af8EAjAAMB0GA1UdDgQWBBSRhzj8t+ByAoQPGiYvLR/jTf9xIzAfBgNVHSMEGDAW
        gBR7t3eUJOQrd2YQJ0dcNtpLpS+flTAKBggqhkjOPQQDAgNIADBFAiEAj9BF+8SS
        prxSe/tvFsIouUZNSDRflKhZ8/W6Tjflr1wCIH/D1TxOPr6piSmccztXrFZiWCh9
        BnsvT5fhqX/KG2d8
        -----END CERTIFICATE-----
        """

    /// Of `client`.
    static let clientKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgy5nKQMiNdWzrXnUy
        K4/hqtNb1FAQoLg8bNgTRLMwWYKhRANCAASpuwi6WiDKvf4eF5JQqLWCj/wAWPix
        fXDHmA++nYuKTmqE0Nz+WQFcBMj53jV46okkzqmytD03b6jlW+hORv/d
        -----END PRIVATE KEY-----
        """
}
