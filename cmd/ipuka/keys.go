package main

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files in the data folder.
const (
	databaseFile  = "ipuka.db"
	checkpointDir = "checkpoints"
	gateKeyFile   = "keys/gate.key"   // seals update tokens and cursors, signs assertions
	masterKeyFile = "keys/master.key" // wraps the stacks' data keys
)

// key is 32 random bytes in a file of their own, readable by their owner only.
type key struct {
	path  string
	bytes []byte
	fresh bool // made by this run
}

// loadKey reads a key file, or makes one where there may be none yet.
func loadKey(path string, mayCreate bool) (key, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !mayCreate {
			return key{}, fmt.Errorf("%s is missing but the data folder is in use: restore it from a backup, the stacks' secrets cannot be read without it", path)
		}
		return createKey(path)
	}
	if err != nil {
		return key{}, fmt.Errorf("reading key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return key{}, fmt.Errorf("%s can be read by others: set its mode to 0600", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return key{}, fmt.Errorf("reading key: %w", err)
	}
	value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(value) != 32 {
		return key{}, fmt.Errorf("%s is damaged: it should hold 32 bytes in base64, restore it from a backup", path)
	}
	return key{path: path, bytes: value}, nil
}

func createKey(path string) (key, error) {
	value := make([]byte, 32)
	_, _ = rand.Read(value) // never fails, see crypto/rand
	text := base64.StdEncoding.EncodeToString(value) + "\n"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return key{}, fmt.Errorf("creating key: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return key{}, fmt.Errorf("creating key: %w", err)
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return key{}, fmt.Errorf("creating key: %w", err)
	}
	return key{path: path, bytes: value, fresh: true}, nil
}

// signingKey derives the gate's Ed25519 key.
func (k key) signingKey() (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, k.bytes, nil, "ipuka assertion", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
