package email_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// The flags of authenticator data (WebAuthn §6.1).
const (
	userPresent  = 1 << 0
	userVerified = 1 << 2
	backupAble   = 1 << 3
	attested     = 1 << 6
)

// authenticator is a security key with one passkey, and the browser that it is plugged
// into. What a test changes is what an attacker, or a broken key, would.
type authenticator struct {
	key     *ecdsa.PrivateKey
	id      []byte
	handle  []byte // of the user whom the passkey is of
	counter uint32

	origin, rpID, kind string // "" for what is right
	challenge          string // "" for the one asked with
	cross              bool
	flags              byte // of what is signed, "attested" apart
}

func newAuthenticator(t testing.TB) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	return &authenticator{key: key, id: id, flags: userPresent | userVerified}
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// client returns the client data of a ceremony (§5.8.1).
func (a *authenticator) client(t testing.TB, kind, challenge string) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"type": or(a.kind, kind), "challenge": or(a.challenge, challenge), "origin": or(a.origin, "https://ipuka.example.com"), "crossOrigin": a.cross,
	})
	ok(t, err)
	return data
}

// data returns authenticator data (§6.1), with the credential in it when it is new.
func (a *authenticator) data(fresh bool) []byte {
	hash := sha256.Sum256([]byte(or(a.rpID, "ipuka.example.com")))
	flags := a.flags
	if fresh {
		flags |= attested
	}
	out := binary.BigEndian.AppendUint32(append(hash[:], flags), a.counter)
	if !fresh {
		return out
	}
	out = append(out, make([]byte, 16)...) // AAGUID
	out = binary.BigEndian.AppendUint16(out, uint16(len(a.id)))
	out = append(out, a.id...)
	point, _ := a.key.PublicKey.ECDH()
	raw := point.Bytes()                                            // 4, x, y
	out = append(out, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32) // COSE_Key: EC2, ES256, P-256
	out = append(out, raw[1:33]...)
	out = append(out, 0x22, 0x58, 32)
	return append(out, raw[33:]...)
}

// create answers navigator.credentials.create.
func (a *authenticator) create(t testing.TB, options []byte) []byte {
	t.Helper()
	var asked struct {
		PublicKey struct {
			Challenge string
			RP        struct{ ID, Name string }
			User      struct{ ID, Name string }
			Selection struct{ ResidentKey, UserVerification string } `json:"authenticatorSelection"`
			Exclude   []struct{ ID string }                          `json:"excludeCredentials"`
		}
	}
	ok(t, json.Unmarshal(options, &asked))
	var err error
	a.handle, err = base64.RawURLEncoding.DecodeString(asked.PublicKey.User.ID)
	ok(t, err)
	if p := asked.PublicKey; p.RP.ID != "ipuka.example.com" || p.Selection.ResidentKey != "required" || p.Selection.UserVerification != "required" || len(a.handle) != 64 {
		t.Fatalf("asked for %s", options)
	}
	data := a.data(true)
	object := append([]byte{0xa3, 0x63}, "fmt"...)
	object = append(append(object, 0x64), "none"...)
	object = append(append(object, 0x67), "attStmt"...)
	object = append(append(object, 0xa0, 0x68), "authData"...)
	object = binary.BigEndian.AppendUint16(append(object, 0x59), uint16(len(data)))
	object = append(object, data...)
	return a.answer(t, map[string]string{
		"clientDataJSON": base64url(a.client(t, "webauthn.create", asked.PublicKey.Challenge)), "attestationObject": base64url(object),
	})
}

// assert answers navigator.credentials.get.
func (a *authenticator) assert(t testing.TB, options []byte) []byte {
	t.Helper()
	var asked struct {
		PublicKey struct {
			Challenge, RPID, UserVerification string
			Allow                             []any `json:"allowCredentials"`
		}
	}
	ok(t, json.Unmarshal(options, &asked))
	if p := asked.PublicKey; p.RPID != "ipuka.example.com" || p.UserVerification != "required" || len(p.Allow) != 0 {
		t.Fatalf("asked for %s", options)
	}
	client, data := a.client(t, "webauthn.get", asked.PublicKey.Challenge), a.data(false)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(data, hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	ok(t, err)
	return a.answer(t, map[string]string{
		"clientDataJSON": base64url(client), "authenticatorData": base64url(a.data(false)),
		"signature": base64url(signature), "userHandle": base64url(a.handle),
	})
}

func (a *authenticator) answer(t testing.TB, response map[string]string) []byte {
	t.Helper()
	answer, err := json.Marshal(map[string]any{
		"id": base64url(a.id), "rawId": base64url(a.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{},
	})
	ok(t, err)
	return answer
}
