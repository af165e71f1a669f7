package aws

import (
	"crypto/sha256"
	"net/http"
	"testing"
	"time"
)

// TestSignature checks examples of AWS's documentation for Signature Version 4: its test suite's post-vanilla and
// get-vanilla-query-order-key-case, and S3's listing of a bucket.
func TestSignature(t *testing.T) {
	t.Parallel()
	suite := &credentials{accessKey: "AKIDEXAMPLE", secretKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	bucket := &credentials{accessKey: "AKIAIOSFODNN7EXAMPLE", secretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	for _, c := range []struct {
		method, url, service string
		keys                 *credentials
		now                  time.Time
		want                 string
	}{
		{
			http.MethodPost, "https://example.amazonaws.com/", "service", suite, time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC),
			"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
		},
		{
			http.MethodGet, "https://example.amazonaws.com/?Param2=value2&Param1=value1", "service", suite, time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC),
			"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
		},
		{
			http.MethodGet, "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", "s3", bucket, time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC),
			"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		signV4(r, sha256.Sum256(nil), c.keys, "us-east-1", c.service, c.now)
		if got := r.Header.Get("Authorization"); got != c.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", c.method, c.url, got, c.want)
		}
	}
}
