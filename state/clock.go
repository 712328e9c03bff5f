package state

import (
	"context"
	"sync"
	"time"

	"github.com/ipuka/ipuka/internal/database"
)

// clockAge is how long a reading of the database's clock is carried on by the
// monotonic clock of this process.
const clockAge = 10 * time.Second

// clock tells the time by which leases are judged. With a database server that is
// the server's, so that replicas agree; asking it on each journal entry would cost a
// round trip, so a reading is carried on for a while.
type clock struct {
	db    *database.DB
	fixed func() time.Time

	mu   sync.Mutex
	read time.Time // when the reading was taken, by this process
	then time.Time // what it was
}

func (c *clock) now(ctx context.Context) (time.Time, error) {
	if c.fixed != nil {
		return c.fixed().UTC().Truncate(time.Microsecond), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := time.Since(c.read); c.read.IsZero() || age > clockAge {
		then, err := c.db.Now(ctx)
		if err != nil {
			return time.Time{}, err
		}
		c.read, c.then = time.Now(), then
	}
	return c.then.Add(time.Since(c.read)).Truncate(time.Microsecond), nil
}
