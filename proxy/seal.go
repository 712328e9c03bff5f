package proxy

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// sealer encrypts what the gate gives to clients to hand back: update tokens and
// list cursors. AES-256-GCM with random nonces; each purpose has a key of its own,
// so that nothing sealed for one opens as another.
type sealer struct{ aead cipher.AEAD }

func newSealer(root []byte, purpose string) (*sealer, error) {
	key, err := hkdf.Key(sha256.New, root, nil, "ipuka gate "+purpose, 32)
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
	return &sealer{aead}, nil
}

func (s *sealer) seal(v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sealed := s.aead.Seal(nil, nil, plain, nil) //nolint:gosec // this AEAD makes its own random nonce
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

var errSeal = errors.New("not sealed by this gate")

func (s *sealer) open(text string, v any) error {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return errSeal
	}
	plain, err := s.aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return errSeal
	}
	return json.Unmarshal(plain, v)
}

// updatePrefix makes sealed update tokens recognisable to secret scanners.
const updatePrefix = "ipu_"

// envelopeGrace is how long an envelope outlives the lease inside it. Whether the
// lease is alive is for the state service alone to say; the envelope's own expiry
// only bounds how long a stolen one is worth trying. A repeated complete comes
// within it.
const envelopeGrace = time.Hour

// updateToken is what the sealed token of an update holds: the state service's
// lease token, and what it is good for and on whose behalf.
type updateToken struct {
	Lease        string    `json:"lease"`
	UserID       string    `json:"user"`
	Login        string    `json:"login"`
	Name         string    `json:"name"`
	TokenID      string    `json:"tid,omitempty"`
	TokenName    string    `json:"tname,omitempty"`
	Organization string    `json:"org"`
	Project      string    `json:"project"`
	Stack        string    `json:"stack"`
	Update       string    `json:"update"`
	Expires      time.Time `json:"exp"`
}

func (g *Gate) sealUpdate(t updateToken) (string, error) {
	sealed, err := g.updates.seal(t)
	return updatePrefix + sealed, err
}

// openUpdate returns what is sealed in token, which must be for exactly the update
// that the request path names.
func (g *Gate) openUpdate(token string, c *call) (updateToken, error) {
	var t updateToken
	sealed, ok := strings.CutPrefix(token, updatePrefix)
	if !ok {
		return t, errSeal
	}
	if err := g.updates.open(sealed, &t); err != nil {
		return t, err
	}
	if time.Now().After(t.Expires) {
		return t, errors.New("expired")
	}
	if t.Organization != c.object.Organization || t.Project != c.object.Project || t.Stack != c.object.Stack || t.Update != c.names["update"] {
		return t, fmt.Errorf("for another update")
	}
	return t, nil
}
