package email

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"

	"github.com/ipuka/ipuka/internal/errs"
)

// Cost is what one argon2id hash takes.
type Cost struct {
	Memory  uint32 // KiB
	Passes  uint32
	Threads uint8
}

// DefaultCost is the recommendation of OWASP's password storage cheat sheet.
var DefaultCost = Cost{Memory: 19 << 10, Passes: 2, Threads: 1}

// The bounds of a cost: a damaged row of the database must not make us allocate all
// memory there is.
const (
	maxMemory = 1 << 20 // KiB
	maxPasses = 64
)

func (c Cost) check() error {
	if c.Threads < 1 || c.Passes < 1 || c.Passes > maxPasses || c.Memory < 8*uint32(c.Threads) || c.Memory > maxMemory {
		return errs.Errorf(errs.Invalid, "email: the cost of a password hash is out of bounds")
	}
	return nil
}

const (
	saltLength = 16
	keyLength  = 32
)

// hash is an argon2id hash with all that is needed to make it again.
type hash struct {
	cost Cost
	salt []byte
	key  []byte
}

func (c Cost) hash(password string) hash {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the program first
	return hash{cost: c, salt: salt, key: c.key(password, salt)}
}

func (c Cost) key(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, c.Passes, c.Memory, c.Threads, keyLength)
}

// dummy returns a hash of cost c that no password has, without the work of one.
func (c Cost) dummy() hash {
	h := hash{cost: c, salt: make([]byte, saltLength), key: make([]byte, keyLength)}
	_, _ = rand.Read(h.key)
	return h
}

// matches reports whether h is the hash of password, in a time that does not depend
// on the answer.
func (h hash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.cost.key(password, h.salt), h.key) == 1
}

// String returns h in the PHC string format.
func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.Memory, h.cost.Passes, h.cost.Threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.key))
}

// parseHash is the inverse of [hash.String]. It takes exactly what that writes. Its
// error has nothing of the text in it.
func parseHash(text string) (hash, error) {
	bad := errs.Errorf(errs.Internal, "a stored password hash cannot be read")
	parts := strings.Split(text, "$")
	if len(parts) != 6 {
		return hash{}, bad
	}
	var h hash
	settings := strings.Split(parts[3], ",")
	if len(settings) != 3 {
		return hash{}, bad
	}
	var values [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		value, err := strconv.ParseUint(strings.TrimPrefix(settings[i], name), 10, 32)
		if err != nil {
			return hash{}, bad
		}
		values[i] = value
	}
	if values[2] > math.MaxUint8 {
		return hash{}, bad
	}
	h.cost = Cost{Memory: uint32(values[0]), Passes: uint32(values[1]), Threads: uint8(values[2])}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	h.key, err2 = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) != saltLength || len(h.key) != keyLength || h.cost.check() != nil || h.String() != text {
		return hash{}, bad
	}
	return h, nil
}

// maxWaiting bounds those who wait for the pool.
const maxWaiting = 32

// pool bounds how much hashing goes on at a time.
type pool struct {
	cost    Cost
	slots   chan struct{}
	waiting atomic.Int64
	runs    atomic.Int64 // so far
}

func newPool(slots int, cost Cost) *pool {
	return &pool{cost: cost, slots: make(chan struct{}, slots)}
}

// run calls work when there is a slot. With the queue full it returns errs.Exhausted
// at once, and errs.Unavailable when ctx ends before its turn.
func (p *pool) run(ctx context.Context, work func()) error {
	select {
	case p.slots <- struct{}{}:
	default:
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	defer func() { <-p.slots }()
	p.runs.Add(1)
	work()
	return nil
}

func (p *pool) wait(ctx context.Context) error {
	if p.waiting.Add(1) > maxWaiting {
		p.waiting.Add(-1)
		return errs.Errorf(errs.Exhausted, "too many people are signing in at this moment, try again in a few seconds")
	}
	defer p.waiting.Add(-1)
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errs.Wrap(errs.Unavailable, ctx.Err(), "the request ended before its turn came")
	}
}
