package identity

import (
	"encoding/base64"
	"strings"

	"github.com/ipuka/ipuka/internal/errs"
)

// A cursor says after which row a list goes on. It is no secret and proves nothing:
// every list is restricted by its own query, and a forged cursor only starts at
// another place of the same list.

func encodeCursor(keys ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(keys, "\n")))
}

// decodeCursor returns the n keys of a cursor, all empty for the first page.
func decodeCursor(cursor string, n int) ([]string, error) {
	if cursor == "" {
		return make([]string, n), nil
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	keys := strings.Split(string(text), "\n")
	if err != nil || len(cursor) > 256 || len(keys) != n || strings.ContainsRune(string(text), 0) || strings.ToValidUTF8(string(text), "") != string(text) {
		return nil, errs.Errorf(errs.Invalid, "the continuation token is not one of this list")
	}
	return keys, nil
}

func pageSize(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 1000)
}
