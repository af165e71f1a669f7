package transit

import (
	"encoding/base64"
	"slices"

	fast "github.com/segmentio/asm/base64"
)

// appendBase64 appends the base64 of src (RFC 4648, with padding) to dst.
func appendBase64(dst, src []byte) []byte {
	size := base64.StdEncoding.EncodedLen(len(src))
	dst = slices.Grow(dst, size)
	dst = dst[:len(dst)+size]
	fast.StdEncoding.Encode(dst[len(dst)-size:], src)
	return dst
}

// decodeBase64 decodes src to dst, which has room for DecodedLen bytes. Result and
// error are those of the library: its base64 is slower, and most of what a batch costs.
func decodeBase64(dst, src []byte) (int, error) {
	n, err := fast.StdEncoding.Decode(dst, src)
	if err != nil { // it counts from somewhere in the middle
		return base64.StdEncoding.Decode(dst, src)
	}
	return n, nil
}
