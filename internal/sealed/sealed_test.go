package sealed_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ipuka/ipuka/internal/sealed"
)

func box(t *testing.T, root byte, purpose string) *sealed.Box {
	t.Helper()
	b, err := sealed.New(bytes.Repeat([]byte{root}, sealed.KeySize), purpose)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOnlyTheSameBoxAndContextOpen(t *testing.T) {
	b := box(t, 1, "one")
	secret := b.Seal([]byte("secret"), "user:1")
	if plain, err := box(t, 1, "one").Open(secret, "user:1"); err != nil || string(plain) != "secret" {
		t.Fatalf("got %q, %v", plain, err)
	}
	flipped := bytes.Clone(secret)
	flipped[len(flipped)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another context": func() ([]byte, error) { return b.Open(secret, "user:2") },
		"another purpose": func() ([]byte, error) { return box(t, 1, "two").Open(secret, "user:1") },
		"another root":    func() ([]byte, error) { return box(t, 2, "one").Open(secret, "user:1") },
		"a changed bit":   func() ([]byte, error) { return b.Open(flipped, "user:1") },
		"too short":       func() ([]byte, error) { return b.Open(secret[:10], "user:1") },
		"empty":           func() ([]byte, error) { return b.Open(nil, "user:1") },
	} {
		if plain, err := open(); !errors.Is(err, sealed.ErrOpen) {
			t.Errorf("%s: got %q, %v", name, plain, err)
		}
	}
}

func TestTextKeepsValues(t *testing.T) {
	type value struct{ Name string }
	b := box(t, 1, "one")
	text, err := b.SealText(value{"ann"})
	if err != nil {
		t.Fatal(err)
	}
	var got value
	if err := b.OpenText(text, &got); err != nil || got.Name != "ann" {
		t.Errorf("got %+v, %v", got, err)
	}
	again, _ := b.SealText(value{"ann"})
	if again == text {
		t.Error("the same value is sealed twice alike")
	}
	for _, bad := range []string{"", "x", text + "=", text + "\n", "!" + text} {
		if err := b.OpenText(bad, &got); !errors.Is(err, sealed.ErrOpen) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func TestRootKeyHasOneLength(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := sealed.New(make([]byte, n), "one"); err == nil {
			t.Errorf("took a key of %d bytes", n)
		}
	}
}
