package state

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"gocloud.dev/secrets"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// A ciphertext is
//
//	version byte 1 ‖ nonce (12 bytes) ‖ AES-256-GCM(data key, plaintext)
//
// with the version byte and the stack's ID as additional data. The ID is never used
// again, so the secrets of a deleted stack stay closed to a later one of its name, and
// it does not change, so they stay open to their own stack under any name.
const (
	cipherVersion = 1
	dataKeySize   = 32
	nonceSize     = 12
)

// maxKeys bounds the unwrapped keys that are kept in memory.
const maxKeys = 4096

// canaryText is wrapped once by the master key, and opened whenever a server starts.
const canaryText = "ipuka state service, canary 1"

// keyring wraps and unwraps the data keys of stacks. Unwrapping may be a call to a key
// service, so unwrapped keys are kept, by stack ID. It is safe for concurrent use.
type keyring struct {
	keeper *secrets.Keeper

	mu   sync.Mutex
	open map[string]cipher.AEAD
}

func newKeyring(keeper *secrets.Keeper) *keyring {
	return &keyring{keeper: keeper, open: make(map[string]cipher.AEAD)}
}

// check refuses a master key other than the one the database was first used with.
func (k *keyring) check(ctx context.Context, s store) error {
	wrapped, err := s.canary(ctx)
	if err != nil {
		return fmt.Errorf("state service: %w", err)
	}
	if wrapped == nil {
		if wrapped, err = k.keeper.Encrypt(ctx, []byte(canaryText)); err != nil {
			return fmt.Errorf("state service: the master key cannot be used: %w", err)
		}
		if err := s.setCanary(ctx, wrapped); err != nil {
			return fmt.Errorf("state service: %w", err)
		}
		if wrapped, err = s.canary(ctx); err != nil { // another server may have been faster
			return fmt.Errorf("state service: %w", err)
		}
	}
	text, err := k.keeper.Decrypt(ctx, wrapped)
	if err == nil && string(text) != canaryText {
		err = errors.New("it opens to another value")
	}
	if err != nil {
		return fmt.Errorf("state service: the master key is not the one that this database was first used with, or its key service does not answer: %w", err)
	}
	return nil
}

// generate returns a new data key, wrapped.
func (k *keyring) generate(ctx context.Context) ([]byte, error) {
	key := make([]byte, dataKeySize)
	_, _ = rand.Read(key) // never fails
	wrapped, err := k.keeper.Encrypt(ctx, key)
	if err != nil {
		return nil, keyError(err)
	}
	return wrapped, nil
}

func keyError(cause error) error {
	return errs.Wrap(errs.Unavailable, cause, "the key service is not available, nothing was changed, try again")
}

func (k *keyring) forget(stackID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.open, stackID)
}

// of returns the cipher of a stack.
func (k *keyring) of(ctx context.Context, st stack) (cipher.AEAD, error) {
	k.mu.Lock()
	aead, ok := k.open[st.id]
	k.mu.Unlock()
	if ok {
		return aead, nil
	}
	key, err := k.keeper.Decrypt(ctx, st.dataKey)
	if err != nil {
		return nil, keyError(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("the data key of stack %s: %w", st.id, err)
	}
	if aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.open) >= maxKeys {
		for id := range k.open { // any one: the map is a cache
			delete(k.open, id)
			break
		}
	}
	k.open[st.id] = aead
	return aead, nil
}

func additional(st stack) []byte { return append([]byte{cipherVersion}, st.id...) }

func seal(aead cipher.AEAD, st stack, plaintext []byte) []byte {
	out := make([]byte, 1+nonceSize, 1+nonceSize+len(plaintext)+aead.Overhead())
	out[0] = cipherVersion
	_, _ = rand.Read(out[1:])
	return aead.Seal(out, out[1:], plaintext, additional(st))
}

func unseal(aead cipher.AEAD, st stack, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < 1+nonceSize || ciphertext[0] != cipherVersion {
		return nil, undecryptable(st)
	}
	plaintext, err := aead.Open(nil, ciphertext[1:1+nonceSize], ciphertext[1+nonceSize:], additional(st))
	if err != nil {
		return nil, undecryptable(st)
	}
	return plaintext, nil
}

func undecryptable(st stack) error {
	return errs.Errorf(errs.Invalid, "the value was not encrypted for stack %s, or has been damaged: it may belong to another stack, or to a deleted one of this name", st.ref)
}

// secretsOf returns the stack that the path names or used to name, and its cipher.
func (s *Server) secretsOf(w http.ResponseWriter, r *http.Request) (stack, cipher.AEAD, error) {
	st, err := s.stackOrAlias(w, r)
	if err != nil {
		return stack{}, nil, err
	}
	aead, err := s.keys.of(r.Context(), st)
	return st, aead, err
}

func (s *Server) encrypt(w http.ResponseWriter, r *http.Request) error {
	st, aead, err := s.secretsOf(w, r)
	if err != nil {
		return err
	}
	var body struct {
		Plaintext []byte `json:"plaintext"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Medium, &body); err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Ciphertext []byte `json:"ciphertext"`
	}{seal(aead, st, body.Plaintext)})
	return nil
}

func (s *Server) decrypt(w http.ResponseWriter, r *http.Request) error {
	st, aead, err := s.secretsOf(w, r)
	if err != nil {
		return err
	}
	var body struct {
		Ciphertext []byte `json:"ciphertext"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Medium, &body); err != nil {
		return err
	}
	plaintext, err := unseal(aead, st, body.Ciphertext)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Plaintext []byte `json:"plaintext"`
	}{plaintext})
	return nil
}

func (s *Server) batchEncrypt(w http.ResponseWriter, r *http.Request) error {
	st, aead, err := s.secretsOf(w, r)
	if err != nil {
		return err
	}
	var body struct {
		Plaintexts [][]byte `json:"plaintexts"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Medium, &body); err != nil {
		return err
	}
	ciphertexts := make([][]byte, len(body.Plaintexts))
	for i, plaintext := range body.Plaintexts {
		ciphertexts[i] = seal(aead, st, plaintext)
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Ciphertexts [][]byte `json:"ciphertexts"`
	}{ciphertexts})
	return nil
}

// batchDecrypt answers for all values or for none. The answer's keys are the very
// texts of the request: a client that misses one crashes.
func (s *Server) batchDecrypt(w http.ResponseWriter, r *http.Request) error {
	st, aead, err := s.secretsOf(w, r)
	if err != nil {
		return err
	}
	var body struct {
		Ciphertexts []string `json:"ciphertexts"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Medium, &body); err != nil {
		return err
	}
	plaintexts := make(map[string][]byte, len(body.Ciphertexts))
	for _, text := range body.Ciphertexts {
		ciphertext, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return errs.Errorf(errs.Invalid, "a ciphertext is not standard base64")
		}
		if plaintexts[text], err = unseal(aead, st, ciphertext); err != nil {
			return err
		}
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Plaintexts map[string][]byte `json:"plaintexts"`
	}{plaintexts})
	return nil
}

// logDecryption takes note that a client shows secrets to a person. The record of it
// is made by the gate.
func (s *Server) logDecryption(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.stackOrAlias(w, r); err != nil {
		return err
	}
	if _, err := httpapi.ReadBody(r, httpapi.Small); err != nil {
		return err
	}
	return noContent(w)
}
