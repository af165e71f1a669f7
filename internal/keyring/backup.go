package keyring

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"arca/internal/errs"
	"arca/internal/storage"
)

// A backup is the JSON of Vault's transit backups: a policy with the versions
// that are not archived, and the archive with all of them. Types that Vault has no
// number for are kept as our own records, in "arca".
type backup struct {
	Policy   *policy    `json:"policy"`
	Archived *archive   `json:"archived_keys,omitempty"`
	Own      *ownBackup `json:"arca,omitempty"`
}

type ownBackup struct {
	Key      *Key            `json:"key"`
	Versions map[int]*stored `json:"versions"`
}

type archive struct {
	Keys []entry `json:"keys"`
}

type policy struct {
	Name              string         `json:"name"`
	Keys              map[int]*entry `json:"keys"`
	Derived           bool           `json:"derived"`
	KDF               int            `json:"kdf"`
	Convergent        bool           `json:"convergent_encryption"`
	Exportable        bool           `json:"exportable"`
	MinDecryption     int            `json:"min_decryption_version"`
	MinEncryption     int            `json:"min_encryption_version"`
	Latest            int            `json:"latest_version"`
	ArchiveVersion    int            `json:"archive_version"`
	ArchiveMin        int            `json:"archive_min_version"`
	MinAvailable      int            `json:"min_available_version"`
	DeletionAllowed   bool           `json:"deletion_allowed"`
	ConvergentVersion int            `json:"convergent_version"`
	Type              int            `json:"type"`
	BackupInfo        *backupInfo    `json:"backup_info"`
	BackupAllowed     bool           `json:"allow_plaintext_backup"`
	AutoRotate        time.Duration  `json:"auto_rotate_period"`
	Imported          bool           `json:"Imported"`
	RotationAllowed   bool           `json:"AllowImportedKeyRotation"`
	KeySize           int            `json:"key_size"`
	SoftDeleted       bool           `json:"soft_deleted,omitempty"`
}

type backupInfo struct {
	Time    time.Time `json:"time"`
	Version int       `json:"version"`
}

// An entry is one version.
type entry struct {
	Key               []byte    `json:"key"`
	HMAC              []byte    `json:"hmac_key"`
	Time              time.Time `json:"time"`
	X                 *number   `json:"ec_x"`
	Y                 *number   `json:"ec_y"`
	D                 *number   `json:"ec_d"`
	RSA               *rsaEntry `json:"rsa_key"`
	RSAPublic         *rsaEntry `json:"rsa_public_key,omitempty"`
	Public            string    `json:"public_key"`
	ConvergentVersion int       `json:"convergent_version"`
	Created           int64     `json:"creation_time"`
	Chain             [][]byte  `json:"certificate_chain"`
}

type rsaEntry struct {
	N      *number
	E      int
	D      *number   `json:",omitempty"`
	Primes []*number `json:",omitempty"`
}

// A number is a big.Int whose digits are bounded when it is read.
type number struct{ big.Int }

const maxDigits = 5_000 // RSA of 16,384 bits

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	if len(b) > maxDigits {
		return fmt.Errorf("a number of more than %d digits", maxDigits)
	}
	return n.Int.UnmarshalJSON(b)
}

// MarshalJSON implements json.Marshaler.
func (n *number) MarshalJSON() ([]byte, error) { return n.Int.MarshalJSON() }

func toNumber(i *big.Int) *number { return &number{*new(big.Int).Set(i)} }

// vaultTypes are the numbers of types in Vault's records, in their order.
func vaultTypes() []Type {
	return []Type{
		AES256GCM, ECDSAP256, Ed25519, RSA2048, RSA4096, ChaCha20, ECDSAP384, ECDSAP521, AES128GCM, RSA3072,
		"managed_key", HMAC, CMAC128, CMAC256,
	}
}

// Backup puts a key with all its versions into the form of Vault's backups.
func (r *Ring) Backup(tx storage.Tx, k *Key, now time.Time) ([]byte, error) {
	number := -1
	for i, t := range vaultTypes() {
		if t == k.Type {
			number = i
		}
	}
	if number < 0 {
		own := &ownBackup{Key: k, Versions: map[int]*stored{}}
		err := r.each(tx, k, 1, MaxVersions, func(n int, s *stored) error {
			own.Versions[n] = s
			return nil
		})
		if err != nil {
			return nil, err
		}
		return json.Marshal(backup{Own: own, Policy: &policy{Name: k.Name}})
	}
	p := &policy{
		Name: k.Name, Keys: map[int]*entry{}, Derived: k.Derived, Convergent: k.Convergent, Exportable: k.Exportable,
		MinDecryption: k.MinDecryption, MinEncryption: k.MinEncryption, Latest: k.Latest, ArchiveVersion: k.Latest,
		ArchiveMin: k.MinAvailable, MinAvailable: k.MinAvailable, DeletionAllowed: k.DeletionAllowed, Type: number,
		BackupInfo: &backupInfo{now, k.Latest}, BackupAllowed: k.BackupAllowed, AutoRotate: k.AutoRotate,
		Imported: k.Imported, RotationAllowed: k.RotationAllowed, KeySize: k.SizeBytes, SoftDeleted: k.SoftDeleted,
	}
	if k.Derived {
		p.KDF = 1
	}
	if k.Convergent {
		p.ConvergentVersion = -1
	}
	a := &archive{}
	if k.MinAvailable == 0 {
		a.Keys = []entry{{}} // there is no version 0
	}
	err := r.each(tx, k, 1, MaxVersions, func(n int, s *stored) error {
		en, err := toEntry(k, s)
		if err != nil {
			return err
		}
		a.Keys = append(a.Keys, *en)
		if n >= k.MinDecryption {
			p.Keys[n] = en
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(backup{Policy: p, Archived: a})
}

func toEntry(k *Key, s *stored) (*entry, error) {
	en := &entry{HMAC: s.HMAC, Time: s.Created, Created: s.Created.Unix(), Chain: s.Chain}
	if k.Convergent {
		en.ConvergentVersion = 3
	}
	v := &Version{spec: s.Spec, m: s.Material}
	if err := v.open(); err != nil {
		return nil, err
	}
	switch k.Type.traits().family { //nolint:exhaustive // the others have no number in Vault
	case aead, cmacKey:
		en.Key = s.Secret
	case hmacKey:
		en.Key, en.HMAC = s.Secret, s.Secret
	case edwards:
		en.Key = v.ed
		en.Public = base64.StdEncoding.EncodeToString(v.edPub)
	case ecdsaKey:
		en.Public = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: s.Public}))
		point, err := v.ecPub.Bytes()
		if err != nil {
			return nil, err
		}
		half := (len(point) - 1) / 2
		en.X, en.Y = toNumber(new(big.Int).SetBytes(point[1:1+half])), toNumber(new(big.Int).SetBytes(point[1+half:]))
		if v.ec != nil {
			d, err := v.ec.Bytes()
			if err != nil {
				return nil, err
			}
			en.D = toNumber(new(big.Int).SetBytes(d))
		}
	case rsaKey:
		if v.rsa == nil {
			en.RSAPublic = &rsaEntry{N: toNumber(v.rsaPub.N), E: v.rsaPub.E}
			break
		}
		en.RSA = &rsaEntry{N: toNumber(v.rsa.N), E: v.rsa.E, D: toNumber(v.rsa.D)}
		for _, q := range v.rsa.Primes {
			en.RSA.Primes = append(en.RSA.Primes, toNumber(q))
		}
	}
	return en, nil
}

// Restore keeps a key from its backup, under the name given or, with "", the one
// that it had. A key of that name is a Conflict unless force replaces it. Other
// errors are Invalid; nothing is written then.
func (r *Ring) Restore(tx storage.Tx, raw []byte, name string, force bool) (*Key, error) {
	b := &backup{}
	if err := json.Unmarshal(raw, b); err != nil {
		return nil, errs.With(errs.Invalid, err)
	}
	k, versions, err := b.read()
	if err != nil {
		return nil, err
	}
	if name != "" {
		k.Name = name
	}
	if err := CheckName(k.Name); err != nil {
		return nil, err
	}
	for n, s := range versions {
		if n < max(1, k.MinAvailable) || n > k.Latest {
			return nil, errs.New(errs.Invalid, "the backup has a version %d, but its key those from %d to %d", n, max(1, k.MinAvailable), k.Latest)
		}
		v := &Version{spec: k.Spec, m: s.Material}
		if err := v.check(); err != nil {
			return nil, errs.New(errs.Invalid, "version %d in the backup is not a key of type %s", n, k.Type)
		}
		if !canShow(s.Created) {
			return nil, errs.New(errs.Invalid, "version %d in the backup was made at no time that can be shown", n)
		}
	}
	if want := k.Latest - max(1, k.MinAvailable) + 1; len(versions) != want {
		return nil, errs.New(errs.Invalid, "the backup has %d versions, but its key %d", len(versions), want)
	}
	_, err = tx.Get(keyDir + k.Name) // one that cannot be decoded may be replaced
	switch {
	case err == nil && !force:
		return nil, errs.New(errs.Conflict, "key %q already exists", k.Name)
	case err == nil:
		if err := r.Delete(tx, k.Name); err != nil {
			return nil, err
		}
	case !storage.IsNotFound(err):
		return nil, err
	}
	for n, s := range versions {
		if n == k.Latest {
			continue
		}
		if err := r.putVersion(tx, k, n, s); err != nil {
			return nil, err
		}
	}
	return k, r.putNewest(tx, k, versions[k.Latest])
}

// canShow reports whether a time is one of RFC 3339.
func canShow(t time.Time) bool { return t.UTC().Year() >= 0 && t.UTC().Year() < 10_000 }

// check is open, and that a public part is that of the secret one.
func (v *Version) check() error {
	if err := v.open(); err != nil {
		return err
	}
	t := v.spec.Type
	if t.Symmetric() && len(v.m.Secret) == 0 || !t.Symmetric() && len(v.m.Public) == 0 || len(v.HMACKey()) < 16 {
		return errMaterial
	}
	if n := len(v.m.Secret); t == HMAC && (n != v.spec.SizeBytes || n < MinHMACBytes || n > MaxHMACBytes) {
		return errMaterial
	}
	if t.CMACs() && len(v.m.Secret) != t.traits().bytes {
		return errMaterial
	}
	curve := t
	if t == Hybrid {
		curve = v.spec.EC
	}
	switch {
	case t == Hybrid && (curve == Ed25519) != (v.edPub != nil),
		v.ed != nil && !bytes.Equal(v.ed[ed25519.SeedSize:], v.edPub),
		v.ecPub != nil && v.ecPub.Curve != curveOf(curve),
		v.ec != nil && !v.ec.PublicKey.Equal(v.ecPub),
		v.rsa != nil && (!v.rsa.PublicKey.Equal(v.rsaPub) || v.rsa.Validate() != nil),
		v.rsaPub != nil && checkBits(t, v.rsaPub.N.BitLen()) != nil,
		v.kem != nil && !bytes.Equal(v.kem.PublicKey().Bytes(), v.m.Public):
		return errMaterial
	}
	if v.lattice != nil {
		pub, err := v.lattice.Public().(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
		if err != nil || !bytes.Equal(pub, v.m.Public) {
			return errMaterial
		}
	}
	return nil
}

// read makes the records of a backup. They are not yet checked.
func (b *backup) read() (*Key, map[int]*stored, error) {
	if b.Own != nil {
		if b.Own.Key == nil || b.Policy == nil {
			return nil, nil, errs.New(errs.Invalid, "the backup has no key")
		}
		k := *b.Own.Key
		k.Name = b.Policy.Name
		for _, s := range b.Own.Versions {
			if s == nil {
				return nil, nil, errs.New(errs.Invalid, "the backup has an empty version")
			}
		}
		return &k, b.Own.Versions, k.checkRestored()
	}
	p := b.Policy
	if p == nil {
		return nil, nil, errs.New(errs.Invalid, "the backup has no policy")
	}
	types := vaultTypes()
	if p.Type < 0 || p.Type >= len(types) || !types[p.Type].Known() {
		return nil, nil, errs.New(errs.Invalid, "the backup is of a key type that is not known here: %d", p.Type)
	}
	k := &Key{
		Name: p.Name, Spec: Spec{Type: types[p.Type]}, Derived: p.Derived, Convergent: p.Convergent, Exportable: p.Exportable,
		BackupAllowed: p.BackupAllowed, DeletionAllowed: p.DeletionAllowed, Imported: p.Imported, RotationAllowed: p.RotationAllowed,
		SoftDeleted: p.SoftDeleted, Latest: p.Latest, MinDecryption: p.MinDecryption, MinEncryption: p.MinEncryption,
		MinAvailable: p.MinAvailable, AutoRotate: p.AutoRotate,
	}
	switch {
	case p.Derived && p.KDF != 1:
		return nil, nil, errs.New(errs.Invalid, "the backup is of a key that is derived by hmac-sha256-counter, which is not supported")
	case p.Convergent && p.ConvergentVersion >= 0 && p.ConvergentVersion < 3:
		return nil, nil, errs.New(errs.Invalid, "the backup is of a key with convergent encryption of version %d, which is not supported", p.ConvergentVersion)
	}
	if k.Type == HMAC {
		k.SizeBytes = p.KeySize
	}
	if err := k.checkRestored(); err != nil {
		return nil, nil, err
	}
	entries := map[int]*entry{}
	if b.Archived != nil {
		for i := range b.Archived.Keys {
			if n := i + p.ArchiveMin; n > 0 && n >= p.MinAvailable && n <= p.Latest {
				entries[n] = &b.Archived.Keys[i]
			}
		}
	}
	for n, en := range p.Keys {
		if en != nil {
			entries[n] = en
		}
	}
	versions := make(map[int]*stored, len(entries))
	for n, en := range entries {
		s, err := k.fromEntry(en)
		if err != nil {
			return nil, nil, errs.New(errs.Invalid, "version %s in the backup: %w", strconv.Itoa(n), err)
		}
		versions[n] = s
		if n == k.Latest {
			k.Rotated = s.Created
		}
		if k.Created.IsZero() || s.Created.Before(k.Created) {
			k.Created = s.Created
		}
	}
	return k, versions, nil
}

// checkRestored validates a key's settings as they came in.
func (k *Key) checkRestored() error {
	k.MinDecryption = max(1, k.MinDecryption)
	if k.Type == Managed {
		return errs.New(errs.Invalid, "keys of type %s are not restored: make one of the managed key", k.Type)
	}
	if err := k.check(); err != nil {
		return err
	}
	if !canShow(k.Created) || !canShow(k.Rotated) {
		return errs.New(errs.Invalid, "the backup has times that cannot be shown")
	}
	if k.Latest < 1 || k.Latest > MaxVersions || k.MinAvailable < 0 || k.MinAvailable > k.Latest ||
		k.MinDecryption > k.Latest || k.MinEncryption < 0 || k.MinEncryption > k.Latest || k.AutoRotate < 0 {
		return errs.New(errs.Invalid, "the backup has version numbers that do not fit together")
	}
	return CheckPeriod(k.AutoRotate)
}

func (k *Key) fromEntry(en *entry) (*stored, error) {
	s := &stored{Spec: k.Spec, Created: en.Time.UTC(), Chain: en.Chain}
	if s.Created.IsZero() && en.Created > 0 {
		s.Created = time.Unix(en.Created, 0).UTC()
	}
	s.HMAC = en.HMAC
	var err error
	switch k.Type.traits().family { //nolint:exhaustive // the others have no number in Vault
	case aead, cmacKey:
		s.Secret = en.Key
	case hmacKey:
		s.Secret, s.HMAC = en.Key, nil
		if k.SizeBytes == 0 || k.SizeBytes == MinHMACBytes {
			k.SizeBytes = len(en.Key)
			s.SizeBytes = len(en.Key)
		}
	case edwards:
		switch {
		case len(en.Key) == ed25519.PrivateKeySize:
			s.Secret, s.Public = en.Key[:ed25519.SeedSize], en.Key[ed25519.SeedSize:]
		case len(en.Key) == 0:
			s.Public, err = base64.StdEncoding.DecodeString(en.Public)
		default:
			err = errMaterial
		}
	case ecdsaKey:
		s.Secret, s.Public, err = fromCurve(k.Type, en)
	case rsaKey:
		s.Secret, s.Public, err = fromRSA(en)
	}
	return s, err
}

func fromCurve(t Type, en *entry) (secret, public []byte, err error) {
	c := curveOf(t)
	size := (c.Params().BitSize + 7) / 8
	fits := func(n *number) bool { return n != nil && n.Sign() >= 0 && n.BitLen() <= 8*size }
	if !fits(en.X) || !fits(en.Y) || en.D != nil && !fits(en.D) {
		return nil, nil, errMaterial
	}
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed (SEC 1, 2.3.3)
	en.X.FillBytes(point[1 : 1+size])
	en.Y.FillBytes(point[1+size:])
	pub, err := ecdsa.ParseUncompressedPublicKey(c, point)
	if err != nil {
		return nil, nil, errMaterial
	}
	if en.D == nil || en.D.Sign() == 0 {
		public, err = x509.MarshalPKIXPublicKey(pub)
		return nil, public, err
	}
	priv, err := ecdsa.ParseRawPrivateKey(c, en.D.FillBytes(make([]byte, size)))
	if err != nil || !priv.PublicKey.Equal(pub) {
		return nil, nil, errMaterial
	}
	return pair(priv, pub)
}

func fromRSA(en *entry) (secret, public []byte, err error) {
	if en.RSA == nil {
		if en.RSAPublic == nil || en.RSAPublic.N == nil {
			return nil, nil, errMaterial
		}
		pub := &rsa.PublicKey{N: &en.RSAPublic.N.Int, E: en.RSAPublic.E}
		if pub.N.Sign() <= 0 || pub.E < 3 {
			return nil, nil, errMaterial
		}
		public, err = x509.MarshalPKIXPublicKey(pub)
		return nil, public, err
	}
	e := en.RSA
	if e.N != nil && e.N.BitLen() > 4096 {
		return nil, nil, errMaterial // checked first: to validate a huge one costs much
	}
	if e.N == nil || e.D == nil || len(e.Primes) != 2 || e.Primes[0] == nil || e.Primes[1] == nil {
		return nil, nil, errMaterial
	}
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: &e.N.Int, E: e.E}, D: &e.D.Int, Primes: []*big.Int{&e.Primes[0].Int, &e.Primes[1].Int}}
	if err := k.Validate(); err != nil {
		return nil, nil, errMaterial
	}
	k.Precompute()
	return pair(k, &k.PublicKey)
}
