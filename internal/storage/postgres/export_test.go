package postgres

// Encode and Decode are for the tests.
func Encode(key string) string { return encode(key) }

// Decode is the reverse of Encode.
func Decode(text []byte) (string, error) { return decode(text) }
