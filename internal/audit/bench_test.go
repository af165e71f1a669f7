package audit

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"arca/internal/engine"
	"arca/internal/mount"
	"arca/internal/namespace"
	"arca/internal/param"
	"arca/internal/storage"
	"arca/internal/storage/storagetest"
	"arca/internal/token"
)

// sample returns the two records of a read of a secret.
func sample() (request, response *Record) {
	req := &engine.Request{
		ID: "3f2a5e0e-7a35-4bb1-9d9c-5a2b9f2f9f10", Op: engine.OpRead, Path: "secret/data/app/config",
		Token:  "hvs.CAESIJlfNUAzQkUzNzE5MTQ2QUU4RjA1",
		Remote: netip.MustParseAddrPort("10.1.2.3:54321"),
	}
	tok := &token.Entry{
		Accessor: "0e9e354a520df04b3f2a5e0e", Policies: []string{"app", "default"}, DisplayName: "token-app",
		Meta: map[string]string{"who": "app"}, Created: time.Unix(1700000000, 0), CreationTTL: time.Hour,
		Type: engine.TokenService, NamespaceID: namespace.RootID,
	}
	request = &Record{
		Kind: Request, Time: time.Unix(1700000001, 5), Op: engine.OpRead, Namespace: namespace.Root(), Request: req,
		Mount: &mount.Entry{Row: mount.Row{Path: "secret/", Type: "kv", Accessor: "kv_1234abcd"}},
		Token: tok, Judged: true, Allowed: true, Granting: []string{"app"},
	}
	answer := *request
	answer.Kind = Response
	answer.Response = &engine.Response{Data: json.RawMessage(
		`{"data":{"password":"correct horse battery staple","user":"app","port":5432},"metadata":{"created_time":"2026-01-02T03:04:05.678901234Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":3}}`)}
	return request, &answer
}

func write(path string) *Record {
	r, _ := sample()
	req := *r.Request
	req.Op, req.Path = engine.OpUpdate, path
	req.Params = param.Object{{Key: "password", Value: json.RawMessage(`"correct horse"`)}, {Key: "n", Value: json.RawMessage(`5`)}}
	out := *r
	out.Op, out.Request = engine.OpCreate, &req
	return &out
}

func BenchmarkEncode(b *testing.B) {
	e := newEncoder(style{accessor: true}, []byte("salt"), "v1.20.0+builtin")
	request, response := sample()
	b.ReportAllocs()
	for b.Loop() {
		e.free(e.encode(request, nil, nil))
		e.free(e.encode(response, nil, nil))
	}
}

func benchBroker(b *testing.B, devices ...Device) *Broker {
	db := storage.Open(storagetest.NewMap(), storage.Config{})
	broker, err := NewBroker(b.Context(), Config{DB: db, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { broker.Close(); _ = db.Close() })
	for _, d := range devices {
		err := db.Update(b.Context(), func(tx storage.Tx) error { return broker.Enable(tx, d.Path, d) })
		if err != nil {
			b.Fatal(err)
		}
	}
	return broker
}

// BenchmarkRecord is both records of one request, taken by file devices.
func BenchmarkRecord(b *testing.B) {
	for _, c := range []struct {
		name    string
		devices int
		at      int // goroutines
	}{{"one device, 1 connection", 1, 1}, {"one device, 64 connections", 1, 64}, {"two devices, 64 connections", 2, 64}} {
		b.Run(c.name, func(b *testing.B) {
			var list []Device
			for i := range c.devices {
				path := string(rune('a'+i)) + "/"
				list = append(list, Device{Path: path, Type: "file", Options: map[string]string{"file_path": filepath.Join(b.TempDir(), "audit.log")}})
			}
			broker := benchBroker(b, list...)
			request, response := sample()
			b.ReportAllocs()
			cpu := processTime()
			if c.at > 1 {
				b.SetParallelism(c.at / 2)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if broker.Log(request) != nil || broker.Log(response) != nil {
							b.Fail()
						}
					}
				})
			} else {
				for b.Loop() {
					if broker.Log(request) != nil || broker.Log(response) != nil {
						b.Fail()
					}
				}
			}
			b.ReportMetric(float64(processTime()-cpu)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}
