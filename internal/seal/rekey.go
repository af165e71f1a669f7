package seal

type rekey struct{}

func (*rekey) wipe() {}

type attempt struct{}

func (*attempt) wipe() {}
