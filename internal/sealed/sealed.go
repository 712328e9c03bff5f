// Package sealed encrypts small values with authenticated encryption: what is handed
// to clients to hand back, and secrets that are stored.
//
// A [Box] is AES-256-GCM with random nonces (NIST SP 800-38D). Each purpose has a key
// of its own, derived from the root key with HKDF (RFC 5869), so that nothing sealed
// for one purpose opens as another.
package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
)

// KeySize is the length of a root key in bytes.
const KeySize = 32

// ErrOpen is returned for everything that has not been sealed by the same box with
// the same context.
var ErrOpen = errors.New("not sealed here")

// Box seals and opens. It is safe for concurrent use.
type Box struct{ aead cipher.AEAD }

// New returns the box of one purpose, a constant of the caller.
func New(root []byte, purpose string) (*Box, error) {
	if len(root) != KeySize {
		return nil, fmt.Errorf("a sealing key has %d bytes, not %d", KeySize, len(root))
	}
	key, err := hkdf.Key(sha256.New, root, nil, "ipuka "+purpose, KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Box{aead}, nil
}

// Seal returns plain, encrypted. It opens only with the same context, which is not
// part of the result: the row that a stored secret belongs to, for example.
func (b *Box) Seal(plain []byte, context string) []byte {
	return b.aead.Seal(nil, nil, plain, []byte(context)) //nolint:gosec // this AEAD makes its own random nonce
}

// Open returns what was sealed; the error is [ErrOpen].
func (b *Box) Open(sealed []byte, context string) ([]byte, error) {
	plain, err := b.aead.Open(nil, nil, sealed, []byte(context))
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// SealText returns v as JSON, encrypted, in the unpadded alphabet of URLs.
func (b *Box) SealText(v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b.Seal(plain, "")), nil
}

// OpenText reads back into v what [Box.SealText] has sealed; the error is [ErrOpen].
func (b *Box) OpenText(text string, v any) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which base64 skips
		return ErrOpen
	}
	plain, err := b.Open(raw, "")
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, v)
}
