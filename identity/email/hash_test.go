package email_test

import (
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

func TestDefaultCost(t *testing.T) {
	if email.DefaultCost != (email.Cost{Memory: 19456, Passes: 2, Threads: 1}) {
		t.Errorf("the default cost is %+v", email.DefaultCost)
	}
	if encoded := email.Encode(email.DefaultCost, "x"); !strings.HasPrefix(encoded, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("encoded as %s", encoded)
	}
}

func TestHashesThatCannotBeRead(t *testing.T) {
	good := email.Encode(cheap, "x")
	if again, cost, err := email.Reparse(good); err != nil || again != good || cost != cheap {
		t.Errorf("%s is read as %s, %+v, %v", good, again, cost, err)
	}
	parts := strings.Split(good, "$")
	with := func(i int, part string) string {
		changed := append([]string(nil), parts...)
		changed[i] = part
		return strings.Join(changed, "$")
	}
	for _, bad := range []string{
		"", "$", "x", good + " ", " " + good, good + "\n", strings.TrimPrefix(good, "$"), good + "$", good[:len(good)-1],
		with(1, "argon2i"), with(1, "ARGON2ID"), with(2, "v=16"), with(2, ""), with(3, "m=64,t=1"), with(3, "m=64,p=1,t=1"), with(3, "m=064,t=1,p=1"),
		with(3, "m=64,t=0,p=1"), with(3, "m=64,t=1,p=0"), with(3, "m=64,t=1,p=256"), with(3, "m=4194304,t=1,p=1"), with(3, "m=64,t=4000000000,p=1"), with(3, "m=4,t=1,p=1"),
		with(3, "m=-64,t=1,p=1"), with(3, "m=64,t=1,p=1,x=1"), with(4, ""), with(4, "AAAA"), with(4, parts[4]+"="), with(5, ""), with(5, "AAAA"), with(5, parts[5]+"="),
	} {
		if _, _, err := email.Reparse(bad); err == nil || bad != "" && bad != "$" && bad != "x" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q is read, or quoted: %v", bad, err)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(email.Encode(cheap, "x"))
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		again, cost, err := email.Reparse(text)
		if err == nil && (again != text || cost.Memory > 1<<20 || cost.Threads == 0 || cost.Passes == 0) {
			t.Errorf("%q is read as %q with %+v", text, again, cost)
		}
	})
}

func TestCostsOutOfBounds(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t), cheap)
	for _, cost := range []email.Cost{{Memory: 64}, {Memory: 4, Passes: 1, Threads: 1}, {Memory: 1 << 21, Passes: 1, Threads: 1}, {Memory: 64, Passes: 100, Threads: 1}} {
		if _, err := email.New(email.Config{Directory: w.directory, DB: w.db, Audit: w.audit, Cost: cost}); err == nil {
			t.Errorf("%+v is accepted", cost)
		}
	}
}
