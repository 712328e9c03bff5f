package database

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/errs"
)

// Migrations are the numbered schema changes of one package, embedded in it as
// migrations/0001_what.sql, 0002_…, and never edited after a release.
//
// A file is plain SQL for all engines, with {{bytes}} for the type of binary data.
// Lines between "-- only sqlite" (or postgres) and "-- only all" are for one engine.
type Migrations struct {
	Name string // the package's name; it must never change
	FS   fs.FS
}

const schemaTable = `CREATE TABLE IF NOT EXISTS schema_versions (
	component TEXT NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (component, version))`

// Migrate brings the schema up to date: forward only, each file in one transaction.
// Replicas may start together; a lock lets them take turns. A database that a newer
// version has written is refused before anything is changed.
func (db *DB) Migrate(ctx context.Context, components ...Migrations) error {
	files := make(map[string][]string)
	for _, c := range components {
		names, err := fs.Glob(c.FS, "migrations/*.sql")
		if err != nil {
			return err
		}
		slices.Sort(names)
		for i, name := range names {
			if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(path.Base(name), want) {
				return fmt.Errorf("migrations of %s: %s should start with %s", c.Name, name, want)
			}
		}
		files[c.Name] = names
	}
	if err := db.refuseNewer(ctx, files); err != nil {
		return err
	}
	for _, c := range components {
		for i, name := range files[c.Name] {
			if err := db.migrateOne(ctx, c, int64(i+1), name); err != nil {
				return fmt.Errorf("migrating %s: %s: %w", c.Name, path.Base(name), err)
			}
		}
	}
	return nil
}

// refuseNewer fails when the database has a migration that this program does not.
func (db *DB) refuseNewer(ctx context.Context, files map[string][]string) error {
	if !db.read.WithContext(ctx).Migrator().HasTable("schema_versions") {
		return db.Ping(ctx)
	}
	var rows []struct {
		Component string
		Version   int64
	}
	err := db.Reader(ctx).Raw("SELECT component, max(version) AS version FROM schema_versions GROUP BY component").Scan(&rows).Error
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Version > int64(len(files[row.Component])) {
			return errs.Errorf(errs.Invalid, "the database was written by a newer version of Ipuka (schema %s %d, this program knows %d): start that version, or restore the backup made before the upgrade",
				row.Component, row.Version, len(files[row.Component]))
		}
	}
	return nil
}

func (db *DB) migrateOne(ctx context.Context, c Migrations, version int64, name string) error {
	text, err := fs.ReadFile(c.FS, name)
	if err != nil {
		return err
	}
	return db.Tx(ctx, func(ctx context.Context) error {
		conn := db.Conn(ctx)
		if db.dialect == PostgreSQL {
			if err := conn.Exec("SELECT pg_advisory_xact_lock(7232469)").Error; err != nil {
				return err
			}
		}
		if err := conn.Exec(schemaTable).Error; err != nil {
			return err
		}
		var done int64
		if err := conn.Raw("SELECT count(*) FROM schema_versions WHERE component = ? AND version = ?", c.Name, version).Scan(&done).Error; err != nil || done > 0 {
			return err
		}
		if err := execScript(conn, dialected(db.dialect, string(text))); err != nil {
			return err
		}
		return conn.Exec("INSERT INTO schema_versions (component, version) VALUES (?, ?)", c.Name, version).Error
	})
}

// execScript runs several statements at once, past gorm's handling of "?" and "@".
func execScript(conn *gorm.DB, script string) error {
	_, err := conn.Statement.ConnPool.ExecContext(conn.Statement.Context, script)
	return translate(err)
}

var onlyLine = regexp.MustCompile(`(?m)^-- only (\w+)\n`)

// dialected returns the text of a migration as one engine gets it.
func dialected(dialect Dialect, text string) string {
	var out strings.Builder
	section, last := "all", 0
	for _, m := range onlyLine.FindAllStringSubmatchIndex(text, -1) {
		if section == "all" || section == string(dialect) {
			out.WriteString(text[last:m[0]])
		}
		section, last = text[m[2]:m[3]], m[1]
	}
	if section == "all" || section == string(dialect) {
		out.WriteString(text[last:])
	}
	bytesType := "BLOB"
	if dialect == PostgreSQL {
		bytesType = "BYTEA"
	}
	return strings.ReplaceAll(out.String(), "{{bytes}}", bytesType)
}
